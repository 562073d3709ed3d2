//! The quiet between two requests of a connection: it ends with more bytes, with patience, or with the process. Timer
//! and shutdown are listened to once for each connection, not once for each request.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// A timeout that costs nothing, not even a look at the clock, where the work is done at once.
pub async fn by<T>(deadline: impl FnOnce() -> Instant, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => timeout_at(deadline(), work).await,
    }
}

/// See the file's head. Nothing is allocated before the first quiet.
pub struct Quiet {
    shutdown: Option<watch::Receiver<bool>>,
    listening: Option<Listening>,
}

struct Listening {
    timer: Pin<Box<Sleep>>,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Quiet {
    /// For a connection of a process that drains when `shutdown` becomes true.
    pub fn new(shutdown: watch::Receiver<bool>) -> Self {
        Quiet { shutdown: Some(shutdown), listening: None }
    }

    /// True when `more` came within `patience`.
    pub async fn wait(&mut self, patience: Duration, more: impl Future<Output = io::Result<()>>) -> bool {
        let until = Instant::now() + patience;
        let shutdown = &mut self.shutdown;
        let mut more = pin!(more);
        poll_fn(|cx| {
            if let Poll::Ready(got) = more.as_mut().poll(cx) {
                return Poll::Ready(got.is_ok());
            }
            let listening = self.listening.get_or_insert_with(|| Listening::new(shutdown.take(), until));
            if listening.poll(cx, until).is_ready() { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

impl Listening {
    fn new(shutdown: Option<watch::Receiver<bool>>, until: Instant) -> Self {
        let drained = async move {
            match shutdown {
                // An error means that the sender is gone, which is the end too.
                Some(mut s) => drop(s.wait_for(|down| *down).await),
                None => std::future::pending().await,
            }
        };
        Listening { timer: Box::pin(sleep_until(until)), drained: Box::pin(drained) }
    }

    /// Ready when the process drains or `until` is over. The timer is left as it was set by an earlier, shorter wait:
    /// when it goes off too early it is set again, which costs once in a while what resetting costs each time.
    fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn patience_counts_from_the_last_request_not_from_the_first() {
        let (_sender, shutdown) = watch::channel(false);
        let mut quiet = Quiet::new(shutdown);
        let ms = Duration::from_millis;
        for _ in 0..4 {
            // The timer of the first wait goes off in the middle of a later one, which goes on.
            let more = async {
                tokio::time::sleep(ms(40)).await;
                Ok(())
            };
            assert!(quiet.wait(ms(60), more).await);
        }
        let started = Instant::now();
        assert!(!quiet.wait(ms(60), pending()).await);
        assert!(started.elapsed() >= ms(60));
        assert!(quiet.wait(ms(60), ready(Ok(()))).await);
        assert!(!quiet.wait(ms(60), ready(Err(io::ErrorKind::ConnectionReset.into()))).await);
    }

    #[tokio::test]
    async fn a_drain_ends_the_quiet_at_once() {
        let (sender, shutdown) = watch::channel(false);
        let mut quiet = Quiet::new(shutdown);
        assert!(quiet.wait(Duration::from_secs(60), ready(Ok(()))).await);
        let waits = quiet.wait(Duration::from_secs(60), pending());
        let (went_on, _) = tokio::join!(waits, async { sender.send(true).unwrap() });
        assert!(!went_on);
    }
}
