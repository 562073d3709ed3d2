//! Gathers what HTTP/2 writes in one round of its loop into one write.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// While it is in, a flush leaves what was gathered where it is. Whoever puts it in takes it out and flushes: HTTP/2
/// flushes after every frame, and only the loop around a connection knows which flush is the last of a round.
#[derive(Clone, Debug, Default)]
pub struct Cork(Arc<AtomicBool>);

impl Cork {
    /// Whether it is in.
    pub fn is_in(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls with the cork in; when nothing is left to do for now, once more with the cork out.
    pub async fn around<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.0.store(true, Ordering::Relaxed);
            let first = work.as_mut().poll(cx);
            self.0.store(false, Ordering::Relaxed);
            if first.is_ready() { first } else { work.as_mut().poll(cx) }
        })
        .await
    }
}
