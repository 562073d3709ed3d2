//! `ai.budgets`: what calls may cost, and `ai.state`: where spending is remembered.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::path::PathBuf;

/// One budget. Each subject (`key`) has its own account in it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// US dollars in a period. A call is let through while less than this is spent and reserved, so that it is never
    /// exceeded by more than one call.
    #[schemars(range(min = 0.0))]
    pub limit_usd: f64,
    /// When spending begins anew, in UTC; weeks begin on Monday.
    pub period: Period,
    /// Whose calls are paid from one account.
    #[serde(default)]
    pub key: BudgetKey,
    /// What happens to a call when nothing is left: `refuse`, or `tier:cheap` for that tier instead.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
    /// Models whose price is not known: they cannot be counted.
    #[serde(default)]
    pub unpriced: Unpriced,
}

/// When spending begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// At midnight.
    Day,
    /// On Monday at midnight.
    Week,
    /// On the first at midnight.
    Month,
    /// Never.
    Total,
}

/// Whose calls are paid from one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetKey {
    /// A virtual key's.
    #[default]
    ApiKey,
    /// A team's; a key without a team pays for itself.
    Team,
    /// A token's subject's.
    User,
    /// All of a route's.
    Route,
}

/// What is done about models without a price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// They are not asked: a budget that does not count them would be none. A model that costs nothing has the price 0.
    #[default]
    Refuse,
    /// They are asked, and count as nothing.
    Allow,
}

/// What happens to a call when nothing is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// It is refused with 429.
    #[default]
    Refuse,
    /// It goes to this tier; what that costs is still counted.
    Tier(String),
}

impl<'de> Deserialize<'de> for OnExhausted {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.strip_prefix("tier:").map(str::trim) {
            Some(tier) if !tier.is_empty() => Ok(OnExhausted::Tier(tier.to_owned())),
            None if text == "refuse" => Ok(OnExhausted::Refuse),
            _ => Err(de::Error::custom(format!("{text:?} is neither refuse nor tier: and a tier's name"))),
        }
    }
}

impl Serialize for OnExhausted {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            OnExhausted::Refuse => s.serialize_str("refuse"),
            OnExhausted::Tier(name) => s.collect_str(&format_args!("tier:{name}")),
        }
    }
}

impl JsonSchema for OnExhausted {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OnExhausted".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(refuse|tier:.+)$", "description": "refuse, or tier: and a tier's name" })
    }
}

/// Where spending is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// A folder, relative to this file; it is made when there are budgets. One gateway at a time can use it.
    pub path: PathBuf,
    /// Force each batch of changes to the disk, so that not even a power cut forgets any; a killed process loses none
    /// that is older than 50 ms either way.
    pub sync: bool,
}

impl Default for State {
    fn default() -> Self {
        State { path: PathBuf::from("data/state"), sync: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_what_happens_at_its_end() {
        let parse = |t: &str| serde_yaml::from_str::<Budget>(t);
        let b = parse("{ limit_usd: 5, period: month }").unwrap();
        assert_eq!((b.key, b.unpriced, b.on_exhausted), (BudgetKey::ApiKey, Unpriced::Refuse, OnExhausted::Refuse));
        let b = parse("{ limit_usd: 0.5, period: day, key: user, on_exhausted: 'tier:cheap' }").unwrap();
        assert_eq!(b.on_exhausted, OnExhausted::Tier("cheap".into()));
        assert_eq!(parse(&serde_yaml::to_string(&b).unwrap()).unwrap(), b);
        for bad in ["tier:", "cheap", "refused"] {
            assert!(parse(&format!("{{ limit_usd: 1, period: day, on_exhausted: '{bad}' }}")).is_err(), "{bad}");
        }
        assert!(parse("{ limit_usd: 1, period: year }").is_err());
    }
}
