//! `bots:`: what you add to the built-in knowledge about automated clients.

use crate::base::units::Dur;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How automated clients are recognised.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bots {
    /// Agents beyond the built-in table.
    #[serde(default)]
    pub lists: BotLists,
    /// Checks agents that publish their host names by reverse and forward DNS, so that `bot.verified` is known. Costs
    /// up to `dns_timeout` on an agent's first request from an address.
    #[serde(default)]
    pub verify_dns: bool,
    /// How long such a check may take in all; when it takes longer the agent is neither verified nor refuted. At most 5s.
    #[serde(default = "dns_timeout")]
    pub dns_timeout: Dur,
}

/// Pieces of user-agent texts, each 3 to 64 printable ASCII characters, compared without regard to case and as whole
/// words (`MyBot` is found in `MyBot/1.0`, not in `MyBottle`). An entry here wins over the built-in table.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BotLists {
    /// Collect text to train or feed models.
    #[serde(default)]
    pub ai_crawlers: Vec<String>,
    /// Fetch a page because a person asked a model about it.
    #[serde(default)]
    pub ai_assistants: Vec<String>,
    /// Index the web for search.
    #[serde(default)]
    pub search_engines: Vec<String>,
    /// Audit sites and links for marketing.
    #[serde(default)]
    pub seo: Vec<String>,
    /// Watch availability, or fetch previews and feeds.
    #[serde(default)]
    pub monitors: Vec<String>,
    /// HTTP libraries and command-line tools.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Vulnerability scanners.
    #[serde(default)]
    pub scanners: Vec<String>,
    /// Your own agents: their kind is `none` and their score 0. A user-agent text is easily copied; this is no
    /// authentication.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Agents whose score is always 100.
    #[serde(default)]
    pub deny: Vec<String>,
}

impl Default for Bots {
    fn default() -> Self {
        Bots { lists: BotLists::default(), verify_dns: false, dns_timeout: dns_timeout() }
    }
}

fn dns_timeout() -> Dur {
    Dur::millis(300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        let b: Bots = serde_yaml::from_str("{}").unwrap();
        assert!(!b.verify_dns && b.lists.deny.is_empty());
        assert_eq!(b.dns_timeout, Dur::millis(300));
    }

    #[test]
    fn lists_parse_and_unknown_ones_are_errors() {
        let b: Bots =
            serde_yaml::from_str("lists: { ai_crawlers: [FooBot], allow: [Probe] }\nverify_dns: true").unwrap();
        assert_eq!(
            (b.lists.ai_crawlers, b.lists.allow, b.verify_dns),
            (vec!["FooBot".into()], vec!["Probe".into()], true)
        );
        assert!(serde_yaml::from_str::<Bots>("lists: { ai_crawler: [FooBot] }").is_err());
    }
}
