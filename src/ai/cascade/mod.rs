//! Cheap first: the answer of a cheap tier is judged before anybody gets it, and a better tier is asked when it is no
//! good. Both are billed; only the one that is given is stored.

mod judge;

#[cfg(test)]
mod tests;

use super::Run;
use super::catalog::Stage;
use super::dialect::chat::{Dropped, Event};
use super::dialect::{Dialect, Seen};
use super::provider::{Live, Opened};
use super::reach::Reached;
use super::routing::breaker::Went;
use super::usage::Usage;
use super::verdict::Failure;
use crate::config::ai::{Cascade, CascadeStreams};
use judge::{Heard, Wanted};
use tokio::time::{Instant, timeout_at};

/// What came of listening to an answer.
enum Listened {
    /// This was said; for a stream, with what the provider counted.
    Heard(Heard, Option<Usage>),
    /// It was too long to be held, or took too long.
    Unheard,
    /// The stream broke off.
    Broken(&'static str, Option<Usage>),
}

impl Run<'_> {
    /// Asks the chosen models and, where the route has a cascade, better ones as long as the answers are no good.
    pub(super) async fn climb(&mut self) -> Result<Reached, Failure> {
        let ends = self.deadline();
        let mut reached = self.reach(ends).await?;
        let context = self.context;
        let Some(cascade) = context.options.cascade.as_ref().filter(|_| self.prompt.operation.is_chat()) else {
            return Ok(reached);
        };
        while let Some(next) = self.above(cascade, &reached) {
            let (outcome, broken, usage) = match self.listen(cascade, &mut reached, ends).await {
                Listened::Unheard => break,
                Listened::Broken(reason, usage) => (reason, true, usage),
                Listened::Heard(heard, usage) => match judge::fault(&heard, cascade, &Wanted::of(self.prompt)) {
                    Some(fault) => (judge::outcome(fault), false, usage),
                    None => break,
                },
            };
            self.choice.first = next;
            // Noted before the next is asked: the client may leave meanwhile.
            let place = self.escalate(&reached, outcome, usage);
            match self.reach(ends).await {
                Ok(better) => {
                    reached.pass.report(if broken { Went::Badly } else { Went::Well });
                    reached = better;
                }
                Err(failure) if broken => return Err(failure),
                // Better than nothing; but it is billed once, and not kept for anyone else.
                Err(_) => {
                    self.record.note(|c| {
                        if let Some(at) = place.filter(|at| *at < c.lost.len()) {
                            c.lost.remove(at);
                        }
                    });
                    reached.stand_in = true;
                    break;
                }
            }
        }
        Ok(reached)
    }

    /// The tier above the one that has answered.
    fn above(&self, cascade: &Cascade, reached: &Reached) -> Option<Stage> {
        let tier = reached.tier.as_deref().filter(|_| !reached.stand_in)?;
        let at = cascade.tiers.iter().position(|t| t == tier)?;
        self.gateway.catalog.tier(cascade.tiers.get(at + 1)?)
    }

    /// Notes why the answer is not given; gives its place among those that were billed in vain.
    fn escalate(&self, reached: &Reached, outcome: &'static str, usage: Option<Usage>) -> Option<usize> {
        let usage = match &reached.opened {
            Opened::Whole { usage, .. } => *usage,
            Opened::Live { .. } => usage,
        };
        let place = self.record.read().lost.len();
        self.record.lose(&reached.model, usage, self.gateway.clock.unix_secs());
        let name = &reached.model.name;
        self.record.note(|c| {
            if let Some(a) = c.attempts.iter_mut().rfind(|a| a.outcome == "ok" && a.model == *name) {
                a.outcome = outcome;
            }
        });
        (self.record.read().lost.len() > place).then_some(place)
    }

    async fn listen(&self, cascade: &Cascade, reached: &mut Reached, ends: Instant) -> Listened {
        let provider = reached.model.provider.speaks(self.prompt.dialect);
        match &mut reached.opened {
            Opened::Whole { json, .. } => {
                let read = self.prompt.dialect.wire().read_answer(json, &mut Dropped::default());
                read.map_or(Listened::Unheard, |answer| Listened::Heard(Heard::answer(&answer, json), None))
            }
            Opened::Live { .. } if cascade.streams == CascadeStreams::Pass => Listened::Unheard,
            Opened::Live { live, .. } => {
                let idle = self.gateway.routing.streaming(&self.context.options).idle.0;
                let hold = Hold { provider, bytes_max: cascade.hold_max.as_usize(), idle, ends };
                hold.listen(live).await
            }
        }
    }
}

/// How a stream is held.
struct Hold {
    provider: Dialect,
    bytes_max: usize,
    idle: std::time::Duration,
    ends: Instant,
}

impl Hold {
    /// Reads to the end. What was read is still to be read by whoever gets the stream.
    async fn listen(&self, live: &mut Live) -> Listened {
        let wire = self.provider.wire();
        let (mut reader, mut heard, mut held, mut bytes) = (wire.reader(), Heard::default(), Vec::new(), 0);
        let end = loop {
            let until = (Instant::now() + self.idle).min(self.ends);
            let frames = match timeout_at(until, live.frames()).await {
                Ok(Ok(Some(frames))) => frames,
                Ok(Ok(None)) if reader.may_end() || heard.ended => break None,
                Ok(Ok(None)) => break Some("cut"),
                Ok(Err(reason)) => break Some(reason),
                Err(_) if Instant::now() >= self.ends => break Some("deadline"),
                Err(_) => break Some("idle_timeout"),
            };
            let mut events = Vec::new();
            for frame in &frames {
                bytes += frame.raw.len();
                match wire.look(frame) {
                    Seen::Data(chunk) => {
                        heard.weigh(&chunk);
                        heard.garbled |= reader.read(&chunk, &mut events).is_err();
                    }
                    Seen::End(chunk) => {
                        // Some dialects tell the end of the answer with the end of the stream.
                        let _ = reader.read(&chunk, &mut events);
                        heard.ended = true;
                    }
                    Seen::Error(_) | Seen::Garbage => heard.garbled = true,
                    Seen::Blank => {}
                }
            }
            events.into_iter().for_each(|e| heard.event(e));
            held.extend(frames);
            if bytes > self.bytes_max || heard.garbled {
                live.peeked = held;
                return Listened::Unheard;
            }
            if heard.ended {
                break None;
            }
        };
        live.peeked = held;
        let usage = reader.progress().usage;
        end.map_or(Listened::Heard(heard, usage), |reason| Listened::Broken(reason, usage))
    }
}

impl Heard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text.push_str(&text),
            Event::Call(..) => self.calls = true,
            Event::Finish(stop) => self.stop = Some(stop),
            _ => {}
        }
    }
}
