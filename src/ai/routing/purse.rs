//! A budget of extra calls: each ordinary call pays in a share, each extra one takes a whole. So extra calls can never
//! be more than that share, beyond the burst.

use std::sync::{Mutex, PoisonError};

/// The budget.
#[derive(Debug)]
pub struct Purse {
    calls: Mutex<f64>,
    most: f64,
}

impl Purse {
    /// One that holds so many calls at first, and at most.
    pub fn new(first: u32, most: u32) -> Purse {
        Purse { calls: Mutex::new(f64::from(first)), most: f64::from(most) }
    }

    /// An ordinary call pays in.
    pub fn pay(&self, share: f64) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls = (*calls + share).min(self.most);
    }

    /// Takes one extra call out, if there is one.
    pub fn take(&self) -> bool {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // A hundred shares of a hundredth are a whole, whatever the last bit says.
        let enough = *calls >= 1.0 - 1e-9;
        if enough {
            *calls = (*calls - 1.0).max(0.0);
        }
        enough
    }
}
