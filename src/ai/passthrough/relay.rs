//! An answer on its way through: piece by piece as it comes, with an eye on what it costs.

use super::bill::Tap;
use crate::ai::settle::Settle;
use crate::ai::usage::Usage;
use crate::base::reply::{Broken, Chunks};
use crate::fetch::Fetched;
use async_trait::async_trait;
use bytes::Bytes;

/// The longest answer; the results of a batch may be large.
const ANSWER_BYTES_MAX: usize = 2 << 30;

/// The body of an answer. Dropping it closes the provider's connection.
pub struct Relay {
    fetched: Fetched,
    tap: Tap,
    bytes: usize,
    /// Until the answer has ended.
    settle: Option<Settle>,
}

impl Relay {
    /// An answer that has begun.
    pub fn new(fetched: Fetched, tap: Tap, settle: Settle) -> Self {
        Relay { fetched, tap, bytes: 0, settle: Some(settle) }
    }

    fn fail(&mut self, reason: &'static str) -> Broken {
        let usage = self.usage();
        if let Some(settle) = self.settle.take() {
            settle.fail(reason, (usage, 0));
        }
        Broken(format!("the provider's answer broke: {reason}"))
    }

    fn usage(&self) -> Option<Usage> {
        self.tap.usage()
    }
}

#[async_trait]
impl Chunks for Relay {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        self.settle.as_ref()?;
        match self.fetched.chunk().await {
            Ok(Some(piece)) => {
                if let Some(settle) = &self.settle {
                    settle.first_content();
                }
                self.tap.feed(&piece);
                self.bytes = self.bytes.saturating_add(piece.len());
                if self.bytes > ANSWER_BYTES_MAX {
                    return Some(Err(self.fail("answer_too_long")));
                }
                Some(Ok(piece))
            }
            Ok(None) => {
                let usage = self.usage();
                if let Some(settle) = self.settle.take() {
                    settle.complete(usage, None);
                }
                None
            }
            Err(e) => Some(Err(self.fail(e.as_str()))),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The client left. What the provider has counted until then, it bills.
        let usage = self.usage();
        if let Some(settle) = self.settle.take() {
            settle.leave((usage, 0));
        }
    }
}
