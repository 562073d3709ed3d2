//! What a call costs: integer arithmetic on prices per million tokens.

use super::usage::Usage;
use crate::base::units::Money;
use crate::config::ai::{LongContext, Price, PriceList};
use std::sync::Arc;
use time::Date;
use time::macros::format_description;

/// Factors are thousandths.
const WHOLE: u64 = 1000;

/// A price in whole trillionths of a dollar per token, which is a millionth of a dollar per million tokens: fine
/// enough for every published price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    reasoning: u64,
    audio_input: u64,
    audio_output: u64,
    image_input: u64,
    image_output: u64,
    long: Option<Long>,
}

/// How the price of a call with a long prompt differs; factors in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Long {
    above_tokens: u64,
    input_times: u64,
    output_times: u64,
}

/// A price with the day from which it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Seconds since 1970; 0 for the first price.
    pub from: u64,
    /// The list and the day that it stands in, or `config` for a price in the configuration.
    pub name: Arc<str>,
    /// The price.
    pub rate: Rate,
}

/// The prices of one model, one after the other in time. Empty where none is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    versions: Vec<Version>,
}

impl Tariff {
    /// One price for all times; it stands in the configuration.
    pub fn fixed(rate: Rate) -> Tariff {
        Tariff { versions: vec![Version { from: 0, name: "config".into(), rate }] }
    }

    /// What a list says of a model; the list has been checked.
    pub fn of_list(list: &PriceList, model: &str) -> Tariff {
        let first = list.models.get(model).and_then(Rate::new);
        let first = first.map(|rate| Version { from: 0, name: list.version.as_str().into(), rate });
        let later = list.valid_from.iter().filter_map(|(day, prices)| {
            let (from, rate) = (begins(day)?, Rate::new(prices.get(model)?)?);
            Some(Version { from, name: format!("{} from {day}", list.version).into(), rate })
        });
        let mut versions: Vec<Version> = first.into_iter().chain(later).collect();
        versions.sort_by_key(|v| v.from);
        Tariff { versions }
    }

    /// The price of a call at this time, in seconds since 1970; `None` where it is unknown.
    pub fn at(&self, unix_secs: u64) -> Option<&Version> {
        self.versions.iter().rev().find(|v| v.from <= unix_secs)
    }

    /// Whether the model ever has a price.
    pub fn is_known(&self) -> bool {
        !self.versions.is_empty()
    }
}

/// When a day begins in UTC, in seconds since 1970.
fn begins(day: &str) -> Option<u64> {
    let day = Date::parse(day, format_description!("[year]-[month]-[day]")).ok()?;
    u64::try_from(day.midnight().assume_utc().unix_timestamp()).ok()
}

/// A price list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// Not the YAML of a price list.
    #[error("the price list is not valid: {0}")]
    Yaml(String),
    /// A negative or absurd number.
    #[error("the price of {model} is out of range: give US dollars per million tokens, 0 to 1000000")]
    Range {
        /// The model.
        model: String,
    },
    /// Something else than a day.
    #[error("valid_from: {day:?} is not a day since 1970, such as 2026-07-01")]
    Day {
        /// What was written.
        day: String,
    },
    /// Factors that are none.
    #[error(
        "long_context of {model} is out of range: above_tokens is 1 or more, input_times and output_times are 1 to 100"
    )]
    Long {
        /// The model.
        model: String,
    },
}

impl Rate {
    /// From a price as written; `None` when a number is negative, not finite or over a dollar per token.
    pub fn new(p: &Price) -> Option<Rate> {
        let (input, output) = (pico(p.input)?, pico(p.output)?);
        let or = |price: Option<f64>, other: u64| price.map_or(Some(other), pico);
        let cache_write = or(p.cache_write, input)?;
        Some(Rate {
            input,
            output,
            cache_read: or(p.cache_read, input)?,
            cache_write,
            cache_write_1h: or(p.cache_write_1h, cache_write)?,
            reasoning: or(p.reasoning, output)?,
            audio_input: or(p.audio_input, input)?,
            audio_output: or(p.audio_output, output)?,
            image_input: or(p.image_input, input)?,
            image_output: or(p.image_output, output)?,
            long: match &p.long_context {
                Some(l) => Some(Long::new(l)?),
                None => None,
            },
        })
    }

    /// The most that so many tokens can cost, of whatever kind they turn out to be.
    pub fn at_most(&self, input: u64, output: u64) -> Money {
        let inputs =
            [self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.audio_input, self.image_input];
        let outputs = [self.output, self.reasoning, self.audio_output, self.image_output];
        let (in_times, out_times) = self.times(self.long.is_some());
        let part = |tokens: u64, rates: &[u64], times: u128| {
            let dearest = rates.iter().copied().max().unwrap_or(0);
            u128::from(tokens).saturating_mul(u128::from(dearest)).saturating_mul(times)
        };
        let parts = part(input, &inputs, in_times).saturating_add(part(output, &outputs, out_times));
        let nano = parts.div_ceil(1000 * u128::from(WHOLE));
        Money { nano_usd: u64::try_from(nano).unwrap_or(u64::MAX) }
    }

    /// The cost of these tokens of one call, rounded once, to the nearest billionth of a dollar.
    pub fn cost(&self, u: &Usage) -> Money {
        nano(self.pico(u, self.is_long(u)))
    }

    /// Whether the call has a long prompt, which has a price of its own.
    pub fn is_long(&self, u: &Usage) -> bool {
        self.long.is_some_and(|l| u.input() > l.above_tokens)
    }

    /// The cost of these tokens of calls that all have a long prompt, or none of them; in trillionths of a dollar.
    pub fn pico(&self, u: &Usage, long: bool) -> u128 {
        let part = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
        let input = part(u.uncached_in, self.input)
            + part(u.cache_read, self.cache_read)
            + part(u.cache_write, self.cache_write)
            + part(u.cache_write_1h, self.cache_write_1h)
            + part(u.audio_in, self.audio_input)
            + part(u.image_in, self.image_input);
        let output = part(u.out_text, self.output)
            + part(u.out_reasoning, self.reasoning)
            + part(u.audio_out, self.audio_output)
            + part(u.image_out, self.image_output);
        let (input_times, output_times) = self.times(long);
        let scaled = input.saturating_mul(input_times).saturating_add(output.saturating_mul(output_times));
        // A trillionth is rounded here where a factor leaves a part of one; no published price does.
        (scaled + u128::from(WHOLE / 2)) / u128::from(WHOLE)
    }

    /// What the provider's prompt cache spared on these tokens: what was read from it would have been read anew. In
    /// trillionths of a dollar.
    pub fn pico_spared(&self, u: &Usage, long: bool) -> u128 {
        let less = u128::from(self.input.saturating_sub(self.cache_read));
        u128::from(u.cache_read) * less * self.times(long).0 / u128::from(WHOLE)
    }

    fn times(&self, long: bool) -> (u128, u128) {
        let long = self.long.filter(|_| long);
        long.map_or((WHOLE.into(), WHOLE.into()), |l| (l.input_times.into(), l.output_times.into()))
    }
}

impl Long {
    fn new(l: &LongContext) -> Option<Long> {
        // Money counts billionths, so a millionth of the wanted number is what it can give as thousandths.
        let times = |x: f64| (1.0..=100.0).contains(&x).then(|| Money::from_usd(x * 1e-6).nano_usd);
        let (input_times, output_times) = (times(l.input_times)?, times(l.output_times)?);
        (l.above_tokens > 0).then_some(Long { above_tokens: l.above_tokens, input_times, output_times })
    }
}

/// Trillionths of a dollar as money, rounded to the nearest billionth.
pub fn nano(pico: u128) -> Money {
    Money { nano_usd: u64::try_from(pico.saturating_add(500) / 1000).unwrap_or(u64::MAX) }
}

/// Dollars per million tokens as whole trillionths of a dollar per token.
fn pico(usd_per_million: f64) -> Option<u64> {
    if !(0.0..=1e6).contains(&usd_per_million) {
        return None;
    }
    // Money counts billionths, so a thousandth of the wanted number is what it can give exactly.
    Some(Money::from_usd(usd_per_million * 1e-3).nano_usd)
}

/// Reads a price list; every price is checked.
pub fn parse_list(yaml: &str) -> Result<PriceList, PriceError> {
    let list: PriceList = serde_yaml::from_str(yaml).map_err(|e| PriceError::Yaml(e.to_string()))?;
    if let Some(day) = list.valid_from.keys().find(|day| begins(day).is_none()) {
        return Err(PriceError::Day { day: day.clone() });
    }
    for (model, price) in list.models.iter().chain(list.valid_from.values().flatten()) {
        if price.long_context.as_ref().is_some_and(|l| Long::new(l).is_none()) {
            return Err(PriceError::Long { model: model.clone() });
        }
        if Rate::new(price).is_none() {
            return Err(PriceError::Range { model: model.clone() });
        }
    }
    Ok(list)
}
