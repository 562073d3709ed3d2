//! A stream under guards: events wait until every text in them is decided, and leave in the order in which they came.
//!
//! Text is never moved from one event to another except where a replaced place reaches over several: what stands there
//! instead is in the first of them.

use super::output::{Hit, Then};
use super::slots::{Delta, Ends, Slot, deltas, ends};
use super::vault::unfinished;
use super::walk::{What, each};
use super::{Denied, Guarded};
use crate::ai::dialect::whole::Whole;
use bytes::Bytes;
use serde_json::Value;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one text that may wait.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Bytes of events that may wait.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Texts that grow in one answer.
const TEXTS_MAX: usize = 2048;
/// The longest unbroken word that is waited for; longer ones are decided in pieces.
const WORD_BYTES_MAX: usize = 8 << 10;
/// Bytes before an undecided place that are looked at, too: words nearby tell what a number is.
const CONTEXT_BYTES: usize = 96;

/// An event on its way out.
#[derive(Debug, PartialEq)]
pub struct Released {
    /// As it is recorded: judged, and masked.
    pub recorded: Value,
    /// As the client gets it.
    pub shown: Shown,
}

/// What the client gets.
#[derive(Debug, PartialEq)]
pub enum Shown {
    /// The bytes as they came.
    AsItCame(Bytes),
    /// Something else.
    Changed(Value),
}

/// The events that wait.
pub struct Held {
    guarded: Arc<Guarded>,
    texts: Vec<Text>,
    events: VecDeque<Event>,
    bytes: usize,
}

struct Event {
    raw: Bytes,
    /// Without its fragments; judged.
    recorded: Value,
    /// The same with the client's values, where they are different.
    shown: Option<Value>,
    judged: bool,
    pieces: Vec<Piece>,
}

struct Piece {
    text: usize,
    path: String,
    said: String,
    /// Its place in the text.
    at: Range<usize>,
}

/// One text in the making.
struct Text {
    slot: Slot,
    json: Option<Whole>,
    /// What came before, as much as judgements need.
    context: String,
    /// What is undecided.
    open: String,
    /// Where that begins in the whole text.
    settled: usize,
    hits: Vec<Hit>,
}

impl Held {
    /// Nothing waits yet.
    pub fn new(guarded: Arc<Guarded>) -> Held {
        Held { guarded, texts: Vec::new(), events: VecDeque::new(), bytes: 0 }
    }

    /// Takes an event with its bytes, and gives those that may leave.
    pub fn push(&mut self, mut event: Value, raw: Bytes) -> Result<Vec<Released>, Denied> {
        let (fragments, end) = (deltas(&event), ends(&event));
        let mut pieces = Vec::new();
        for delta in fragments {
            let Some(Value::String(said)) = event.pointer_mut(&delta.path) else { continue };
            let said = std::mem::take(said);
            pieces.push(self.fragment(delta, said)?);
        }
        let (judged, shown) = self.rest(&mut event)?;
        self.bytes += raw.len();
        self.events.push_back(Event { raw, recorded: event, shown, judged, pieces });
        let ended = |slot: &Slot| match &end {
            Ends::All => true,
            Ends::Groups(groups) => groups.contains(&slot.group),
        };
        for text in &mut self.texts {
            let whole = text.json.as_ref().is_some_and(Whole::is_whole);
            let last = whole || ended(&text.slot);
            text.advance(&self.guarded, last)?;
        }
        if self.bytes > HELD_BYTES_MAX {
            return Err(self.guarded.denied(Denied::failed("the answer cannot be looked at by its guards")));
        }
        Ok(self.release())
    }

    /// No event follows: everything is decided now.
    pub fn finish(&mut self) -> Result<Vec<Released>, Denied> {
        for text in &mut self.texts {
            text.advance(&self.guarded, true)?;
        }
        Ok(self.release())
    }

    /// Adds a fragment to its text. Another text of the same group has ended with that, unless it is JSON, of which
    /// several may grow side by side.
    fn fragment(&mut self, delta: Delta, said: String) -> Result<Piece, Denied> {
        for other in self.texts.iter_mut().filter(|t| t.slot.group == delta.slot.group && t.slot != delta.slot) {
            if other.json.is_none() {
                other.advance(&self.guarded, true)?;
            }
        }
        let known = self.texts.iter().position(|t| t.slot == delta.slot);
        let text = known.unwrap_or(self.texts.len());
        if known.is_none() {
            self.texts.push(Text::new(delta.slot, delta.json));
        }
        let at = self.texts.get_mut(text).map(|t| t.append(&said)).unwrap_or_default();
        if self.texts.len() > TEXTS_MAX {
            return Err(self.guarded.denied(Denied::failed("the answer cannot be looked at by its guards")));
        }
        Ok(Piece { text, path: delta.path, said, at })
    }

    /// Judges what stands whole in an event; whether that changed it, and what the client gets where that is different.
    fn rest(&self, event: &mut Value) -> Result<(bool, Option<Value>), Denied> {
        let mut judged = false;
        each(event, &mut |what: What, text: &str| {
            let new = self.guarded.judged(what, text)?;
            judged |= new.is_some();
            Ok::<_, Denied>(new)
        })?;
        Ok((judged, self.guarded.put_back(event)))
    }

    fn release(&mut self) -> Vec<Released> {
        let mut out = Vec::new();
        while let Some(event) = self.events.front() {
            let decided = |p: &Piece| self.texts.get(p.text).is_none_or(|t| p.at.end <= t.settled);
            if !event.pieces.iter().all(decided) {
                break;
            }
            let Some(event) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(event.raw.len());
            let ends: Vec<(usize, usize)> = event.pieces.iter().map(|p| (p.text, p.at.end)).collect();
            out.push(self.told(event));
            for (text, end) in ends {
                if let Some(text) = self.texts.get_mut(text) {
                    text.hits.retain(|h| h.at.end > end);
                }
            }
        }
        out
    }

    fn told(&self, event: Event) -> Released {
        let Event { raw, mut recorded, mut shown, judged, pieces } = event;
        let touched = |p: &Piece| self.texts.get(p.text).is_some_and(|t| t.hits.iter().any(|h| h.meets(&p.at)));
        let changed = judged || shown.is_some() || pieces.iter().any(touched);
        if changed && shown.is_none() {
            shown = Some(recorded.clone());
        }
        for piece in pieces {
            let hits = self.texts.get(piece.text).map_or(&[][..], |t| t.hits.as_slice());
            if let Some(place) = shown.as_mut().and_then(|s| s.pointer_mut(&piece.path)) {
                *place = piece.with(hits, true).into();
            }
            if let Some(place) = recorded.pointer_mut(&piece.path) {
                *place = if changed { piece.with(hits, false).into() } else { piece.said.into() };
            }
        }
        Released { recorded, shown: shown.map_or(Shown::AsItCame(raw), Shown::Changed) }
    }
}

impl Hit {
    fn meets(&self, at: &Range<usize>) -> bool {
        self.at.start < at.end && at.start < self.at.end
    }
}

impl Piece {
    /// The fragment with what its text's hits make of it, for the record or for the client.
    fn with(&self, hits: &[Hit], for_client: bool) -> String {
        let (mut out, mut from) = (String::with_capacity(self.said.len()), self.at.start);
        let said = |range: Range<usize>| {
            let inside = range.start.saturating_sub(self.at.start)..range.end.saturating_sub(self.at.start);
            self.said.get(inside).unwrap_or_default()
        };
        for hit in hits.iter().filter(|h| h.meets(&self.at)) {
            let instead = match &hit.then {
                Then::Replace(_, text) => text,
                Then::Restore(value) if for_client => value,
                _ => continue,
            };
            out.push_str(said(from..hit.at.start.max(from)));
            if hit.at.start >= self.at.start {
                out.push_str(instead);
            }
            from = from.max(hit.at.end.min(self.at.end));
        }
        out.push_str(said(from..self.at.end));
        out
    }
}

impl Text {
    fn new(slot: Slot, json: bool) -> Text {
        let json = json.then(Whole::default);
        Text { slot, json, context: String::new(), open: String::new(), settled: 0, hits: Vec::new() }
    }

    /// Adds what is said and gives its place.
    fn append(&mut self, said: &str) -> Range<usize> {
        let from = self.settled + self.open.len();
        self.open.push_str(said);
        if let Some(whole) = &mut self.json {
            whole.add(said);
        }
        from..from + said.len()
    }

    /// Decides as much as can be; at the `last`, everything.
    fn advance(&mut self, guarded: &Guarded, last: bool) -> Result<(), Denied> {
        if self.open.is_empty() {
            return Ok(());
        }
        let known = self.context.len();
        let text = format!("{}{}", self.context, self.open);
        let mut hits = guarded.hits(&text, self.json.is_some());
        // What begins where the context was cut off may be the rest of something longer.
        hits.retain(|h| h.at.end > known && (h.at.start > 0 || self.settled == known));
        let mut to = if last { text.len() } else { self.certain(guarded, &text).max(known) };
        for hit in hits.iter().rev().filter(|_| !last) {
            if hit.at.end > to {
                to = to.min(hit.at.start.max(known));
            }
        }
        if text.len() - to > TEXT_BYTES_MAX {
            return Err(guarded.denied(Denied::failed("the answer cannot be looked at by its guards")));
        }
        for mut hit in hits.into_iter().filter(|h| h.at.end <= to) {
            guarded.settle(&hit)?;
            let (start, end) = (hit.at.start.max(known) - known, hit.at.end - known);
            hit.at = self.settled + start..self.settled + end;
            self.hits.extend((hit.then != Then::Flag).then_some(hit));
        }
        self.settled += to - known;
        let mut from = to.saturating_sub(CONTEXT_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        self.context = text.get(from..to).unwrap_or_default().to_owned();
        self.open = text.get(to..).unwrap_or_default().to_owned();
        Ok(())
    }

    /// How far nothing that follows can change the judgement.
    fn certain(&self, guarded: &Guarded, text: &str) -> usize {
        let window = guarded.window();
        let mut to = text.len();
        if window > 0 {
            let word = text.len() - text.bytes().rev().take_while(|b| is_wordy(*b)).count();
            let word = if text.len() - word > WORD_BYTES_MAX { text.len() } else { word };
            to = text.len().saturating_sub(window).min(word);
        }
        to = unfinished(text, self.json.is_some()).map_or(to, |at| to.min(at));
        while !text.is_char_boundary(to) {
            to -= 1;
        }
        to
    }
}

/// What addresses, keys and numbers without blanks are made of.
fn is_wordy(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._%+@=/:'-".contains(&b)
}
