//! What a call costs: integer arithmetic on prices per million tokens.

use super::usage::Usage;
use crate::base::units::Money;
use crate::config::ai::{Price, PriceList};

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
        })
    }

    /// The most that so many tokens can cost, of whatever kind they turn out to be.
    pub fn at_most(&self, input: u64, output: u64) -> Money {
        let dearest_in =
            [self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.audio_input].into_iter().max();
        let dearest_out = [self.output, self.reasoning, self.audio_output].into_iter().max();
        let part = |tokens: u64, rate: Option<u64>| u128::from(tokens) * u128::from(rate.unwrap_or(0));
        let pico = part(input, dearest_in).saturating_add(part(output, dearest_out));
        Money { nano_usd: u64::try_from(pico.div_ceil(1000)).unwrap_or(u64::MAX) }
    }

    /// The cost of these tokens, rounded once, to the nearest billionth of a dollar.
    pub fn cost(&self, u: &Usage) -> Money {
        let part = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
        let pico = part(u.uncached_in, self.input)
            + part(u.cache_read, self.cache_read)
            + part(u.cache_write, self.cache_write)
            + part(u.cache_write_1h, self.cache_write_1h)
            + part(u.audio_in, self.audio_input)
            + part(u.out_text, self.output)
            + part(u.out_reasoning, self.reasoning)
            + part(u.audio_out, self.audio_output);
        Money { nano_usd: u64::try_from((pico + 500) / 1000).unwrap_or(u64::MAX) }
    }
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
    for (model, price) in &list.models {
        if Rate::new(price).is_none() {
            return Err(PriceError::Range { model: model.clone() });
        }
    }
    Ok(list)
}
