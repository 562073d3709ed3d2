//! `GET /ai/usage?by=route|key|model&period=24h`: what model calls used, cost and spared. Costs are reckoned here, from the
//! price that held at the time.

use super::Answer;
use crate::ai::ledger::{Cell, DAY, DAYS_MAX, Entry, Spared, Winnings};
use crate::ai::price::{Version, nano};
use crate::ai::usage::Usage;
use crate::base::units::{Dur, Money};
use crate::observe::access_log::timestamp;
use crate::proxy::Edge;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

const DEFAULT_PERIOD: &str = "24h";

/// What rows are made by.
#[derive(Clone, Copy)]
enum By {
    Route,
    Key,
    Model,
}

/// A row under way.
#[derive(Default)]
struct Sum {
    cell: Cell,
    /// Trillionths of a dollar, as far as prices are known.
    pico: u128,
    priced: bool,
    unpriced_tokens: u64,
    versions: BTreeSet<String>,
}

/// The answer to a query.
pub fn usage(edge: &Edge, query: &str) -> Answer {
    match asked(query) {
        Ok((by, seconds)) => Answer::json(StatusCode::OK, &report(edge, by, seconds)),
        Err(message) => Answer::error(StatusCode::BAD_REQUEST, &message),
    }
}

fn asked(query: &str) -> Result<(By, u64), String> {
    let (mut by, mut period) = (By::Model, DEFAULT_PERIOD);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        match pair.split_once('=') {
            Some(("by", "route")) => by = By::Route,
            Some(("by", "key")) => by = By::Key,
            Some(("by", "model")) => by = By::Model,
            Some(("period", value)) => period = value,
            _ => return Err(format!("{pair:?}: there is by=route|key|model and period=1h to {DAYS_MAX}d")),
        }
    }
    let seconds = period.parse::<Dur>().map_err(|e| format!("period: {e}"))?.0.as_secs();
    let most = DAYS_MAX * DAY;
    if (1..=most).contains(&seconds) { Ok((by, seconds)) } else { Err(format!("period: 1s to {DAYS_MAX}d")) }
}

fn report(edge: &Edge, by: By, seconds: u64) -> Value {
    let plan = edge.plan.load();
    let now = edge.shared.clock.unix_secs();
    let mut total = Sum::default();
    let mut rows: BTreeMap<String, Sum> = BTreeMap::new();
    let mut from = now;
    for entry in edge.shared.ledger.entries(now, seconds) {
        let catalog = plan.ai.as_ref().map(|g| g.catalog());
        let model = catalog.and_then(|c| c.models().find(|m| m.name == entry.who.model));
        let price = model.and_then(|m| m.tariff.at(entry.at));
        from = from.min(entry.at);
        total.add(&entry, price);
        let name = match by {
            By::Route => &entry.who.route,
            By::Key => &entry.who.key,
            By::Model => &entry.who.model,
        };
        rows.entry(name.clone()).or_default().add(&entry, price);
    }
    let mut rows: Vec<(String, Sum)> = rows.into_iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.pico));
    let part = match by {
        By::Route => "route",
        By::Key => "key",
        By::Model => "model",
    };
    let told = rows.iter().map(|(name, sum)| sum.told(Some((part, name)), &total)).collect::<Vec<_>>();
    let at = |secs: u64| timestamp(UNIX_EPOCH + Duration::from_secs(secs));
    json!({ "from": at(from), "to": at(now), "by": part, "rows": told, "total": total.told(None, &total) })
}

impl Sum {
    fn add(&mut self, entry: &Entry, price: Option<&Version>) {
        let Cell { usage, long, .. } = &entry.cell;
        self.cell.add(&entry.cell);
        let tokens = usage.total().saturating_add(long.total());
        match price {
            Some(Version { name, rate, .. }) if tokens > 0 => {
                self.pico = self.pico.saturating_add(rate.pico(usage, false)).saturating_add(rate.pico(long, true));
                self.priced = true;
                if !self.versions.contains(&**name) {
                    self.versions.insert(name.to_string());
                }
            }
            Some(_) => {}
            None => self.unpriced_tokens = self.unpriced_tokens.saturating_add(tokens),
        }
    }

    fn told(&self, name: Option<(&str, &str)>, total: &Sum) -> Value {
        let mut used = self.cell.usage;
        used.add(&self.cell.long);
        // Nothing used costs nothing; something used at no known price costs nobody knows what.
        let known = self.priced || self.unpriced_tokens == 0;
        let cost = known.then(|| nano(self.pico));
        let won = &self.cell.won;
        let mut out = Map::new();
        let mut set = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
        if let Some((part, name)) = name {
            set(part, name.into());
        }
        set("calls", self.cell.calls.into());
        set("tokens", buckets(&used));
        set("cost_usd", cost.map(Money::usd_exact).into());
        set("cost_nano_usd", cost.map(|c| c.nano_usd).into());
        set("cost_share", share(self.pico, total.pico));
        set("unpriced_tokens", self.unpriced_tokens.into());
        set("prices", json!(self.versions));
        set("saved", saved(won));
        set("synthetic_capacity", capacity(won, &used));
        Value::Object(out)
    }
}

fn buckets(used: &Usage) -> Value {
    let mut out: Map<String, Value> = used.kinds().into_iter().map(|(kind, n)| (kind.to_owned(), n.into())).collect();
    out.insert("total".to_owned(), used.total().into());
    Value::Object(out)
}

/// What was won, by what won it.
pub fn saved(won: &Winnings) -> Value {
    let one = |(way, w): (Spared, &crate::ai::ledger::Won)| {
        let told = json!({
            "calls": w.calls, "tokens": w.tokens(), "input_tokens": w.input_tokens, "output_tokens": w.output_tokens,
            "usd": Money { nano_usd: w.nano_usd }.usd(), "model_seconds": Duration::from_millis(w.milliseconds).as_secs_f64(),
        });
        (way.as_str().to_owned(), told)
    };
    Value::Object(Spared::ALL.into_iter().zip(won).map(one).collect())
}

/// The capacity that answers without a model stand for. A provider's prompt cache is left out: it makes tokens cheaper
/// and does not spare them.
fn capacity(won: &Winnings, used: &Usage) -> Value {
    let of = Spared::ALL.into_iter().zip(won).filter(|(way, _)| *way != Spared::PromptCache);
    let (tokens, ms) = of.fold((0u64, 0u64), |(tokens, ms), (_, w)| {
        (tokens.saturating_add(w.tokens()), ms.saturating_add(w.milliseconds))
    });
    let all = u128::from(tokens).saturating_add(used.total().into());
    json!({
        "tokens": tokens, "model_seconds": Duration::from_millis(ms).as_secs_f64(),
        "share_of_tokens": share(tokens.into(), all),
    })
}

/// A part of a whole in thousandths' precision; null where there is no whole.
fn share(part: u128, whole: u128) -> Value {
    let thousandths = part.saturating_mul(1000).checked_div(whole).and_then(|t| u32::try_from(t).ok());
    thousandths.map(|t| f64::from(t) / 1e3).into()
}
