//! The order in which the models of a tier are asked: pure, from what is known of each.

use super::dice::Dice;
use crate::config::ai::Strategy;
use std::time::Duration;

/// What is known of a model when the order is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// Its weight in the tier, at least 1.
    pub weight: u32,
    /// Its calls in flight.
    pub in_flight: u32,
    /// Its time to the first content of late; `None` without a recent measurement.
    pub latency: Option<Duration>,
    /// What this prompt would cost, in billionths of a dollar; `None` where unknown.
    pub cost: Option<u64>,
}

/// The places of `all` in the order to ask them. Where the strategy sees no difference, the list's order stays.
pub fn order(strategy: Strategy, all: &[Known], dice: &Dice) -> Vec<usize> {
    let rank = |k: &Known| match strategy {
        Strategy::Order => 0.0,
        // Efraimidis and Spirakis: sorting by -ln(u)/weight draws without putting back.
        Strategy::Weighted => -dice.draw().ln() / f64::from(k.weight.max(1)),
        Strategy::LeastBusy => f64::from(k.in_flight) / f64::from(k.weight.max(1)),
        Strategy::LowestLatency => latency(k),
        Strategy::Cheapest => k.cost.map_or(f64::INFINITY, |c| c as f64),
    };
    let mut ranked: Vec<(f64, usize)> = all.iter().enumerate().map(|(i, k)| (rank(k), i)).collect();
    // Stable: equals keep their order.
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranked.into_iter().map(|(_, i)| i).collect()
}

/// A model without a measurement is tried at once, but by one call at a time: it may be slow.
fn latency(k: &Known) -> f64 {
    match k.latency {
        Some(latency) => latency.as_secs_f64(),
        None if k.in_flight == 0 => -1.0,
        None => f64::INFINITY,
    }
}
