//! Answers on their way into a semantic cache, counted so that a shutdown can wait for the last of them.

use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// The filings under way of one cache.
#[derive(Clone, Debug, Default)]
pub struct Filings {
    pending: Arc<watch::Sender<usize>>,
}

/// One filing; dropping it counts it as done, also where its task was aborted.
struct One(Filings);

impl Filings {
    /// Files in the background: filing a vector takes milliseconds, for which no client should wait.
    pub fn begin(&self, filing: impl Future<Output = ()> + Send + 'static) {
        self.pending.send_modify(|n| *n += 1);
        let one = One(self.clone());
        tokio::spawn(async move {
            filing.await;
            drop(one);
        });
    }

    /// Filings under way.
    pub fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Resolves when none is under way. Each filing is bounded by its store's own time limits, but who calls this at
    /// a shutdown should set a limit of its own.
    pub async fn settled(&self) {
        // An error means that the sender is gone, and `self` holds it.
        let _ = self.pending.subscribe().wait_for(|n| *n == 0).await;
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.pending.send_modify(|n| *n = n.saturating_sub(1));
    }
}
