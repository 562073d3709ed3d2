//! A request as a scripted provider understood it, in words common to all dialects, and strict reading of JSON objects.

use serde_json::{Map, Value};
use std::cell::RefCell;

/// A result, or what is wrong with the request.
pub type Read<T> = Result<T, String>;

/// What a provider was asked.
#[derive(Debug, Default)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// Whether the stream is to end with usage, where clients choose.
    pub usage_wanted: bool,
    /// Whether a stream is wanted.
    pub stream: bool,
    /// The instructions.
    pub system: String,
    /// The conversation, neighbours of one role joined.
    pub turns: Vec<Turn>,
    /// The tools offered: name, description, schema.
    pub tools: Vec<(String, String, Value)>,
    /// Whether a tool must be called; `None` when the request leaves it open.
    pub must_call: Option<bool>,
    /// The limit on output tokens.
    pub max_tokens: Option<u64>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// The texts that end the answer.
    pub stop: Vec<String>,
    /// The schema that the answer must keep to.
    pub schema: Option<Value>,
}

/// One turn.
#[derive(Debug, PartialEq)]
pub struct Turn {
    /// Whether the user speaks, else the model.
    pub user: bool,
    /// What is said.
    pub pieces: Vec<Piece>,
}

/// A piece of a turn.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// An image: media type and base64.
    Image(String, String),
    /// A tool call: id, name, arguments.
    Call(String, String, Value),
    /// What a tool returned: the call's id and the text.
    Outcome(String, String),
}

impl Asked {
    /// Adds pieces to the last turn if the same role speaks, else as a new one: for dialects where every result is a
    /// message of its own.
    pub fn say(&mut self, user: bool, pieces: Vec<Piece>) {
        match self.turns.last_mut().filter(|t| t.user == user) {
            Some(last) => last.pieces.extend(pieces),
            None => self.turns.push(Turn { user, pieces }),
        }
    }

    /// The user begins and ends, roles alternate, every call is answered in the turn behind it and nothing else is.
    pub fn check_turns(&self) -> Read<()> {
        let mut open: Vec<&str> = Vec::new();
        for (i, turn) in self.turns.iter().enumerate() {
            if turn.user != (i % 2 == 0) {
                return Err(format!("turn {i}: roles must alternate, the user first"));
            }
            if turn.pieces.is_empty() {
                return Err(format!("turn {i} says nothing"));
            }
            for piece in &turn.pieces {
                match piece {
                    Piece::Call(id, ..) if !turn.user && !open.contains(&id.as_str()) => open.push(id),
                    Piece::Outcome(id, _) if turn.user => {
                        let at = open.iter().position(|o| o == id);
                        open.remove(at.ok_or_else(|| format!("turn {i}: a result for {id:?}, which nobody called"))?);
                    }
                    Piece::Call(..) | Piece::Outcome(..) => return Err(format!("turn {i}: out of place: {piece:?}")),
                    Piece::Image(..) if !turn.user => return Err(format!("turn {i}: the model shows an image")),
                    _ => {}
                }
            }
            if turn.user && !open.is_empty() {
                return Err(format!("turn {i}: calls without results: {open:?}"));
            }
        }
        match self.turns.last() {
            Some(last) if last.user => Ok(()),
            _ => Err("the user must speak last".to_owned()),
        }
    }

    /// The user's last words.
    pub fn last_text(&self) -> &str {
        let said = self.turns.iter().rev().filter(|t| t.user).flat_map(|t| &t.pieces);
        said.filter_map(|p| if let Piece::Text(text) = p { Some(text.as_str()) } else { None }).next().unwrap_or("")
    }

    /// The texts of a turn.
    pub fn text_of(&self, turn: usize) -> String {
        let pieces = self.turns.get(turn).map_or(&[][..], |t| &t.pieces);
        pieces.iter().filter_map(|p| if let Piece::Text(text) = p { Some(text.as_str()) } else { None }).collect()
    }
}

/// An object whose every member must be known.
pub struct Members<'a> {
    at: String,
    map: &'a Map<String, Value>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Members<'a> {
    /// The members of an object at a place of the request.
    pub fn of(value: &'a Value, at: impl Into<String>) -> Read<Members<'a>> {
        let at = at.into();
        match value.as_object() {
            Some(map) => Ok(Members { at, map, known: RefCell::default() }),
            None => Err(format!("{at}: must be an object, is {value}")),
        }
    }

    /// A member that may be missing. `null` is a value, which no scripted provider takes.
    pub fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.known.borrow_mut().push(name);
        self.map.get(name)
    }

    /// A member that must be there.
    pub fn need(&self, name: &'static str) -> Read<&'a Value> {
        self.get(name).ok_or_else(|| format!("{}: {name} is required", self.at))
    }

    /// A text that must be there.
    pub fn text(&self, name: &'static str) -> Read<&'a str> {
        self.need(name)?.as_str().ok_or_else(|| format!("{}.{name}: must be a string", self.at))
    }

    /// A list that must be there.
    pub fn list(&self, name: &'static str) -> Read<&'a [Value]> {
        let list = self.need(name)?.as_array().ok_or_else(|| format!("{}.{name}: must be a list", self.at))?;
        Ok(list)
    }

    /// A list that may be missing.
    pub fn some_list(&self, name: &'static str) -> Read<&'a [Value]> {
        if self.map.contains_key(name) { self.list(name) } else { Ok(self.get(name).map_or(&[][..], |_| &[])) }
    }

    /// The members of an object that must be there.
    pub fn inner(&self, name: &'static str) -> Read<Members<'a>> {
        Members::of(self.need(name)?, format!("{}.{name}", self.at))
    }

    /// The members of an object that may be missing.
    pub fn some(&self, name: &'static str) -> Read<Option<Members<'a>>> {
        self.get(name).map(|v| Members::of(v, format!("{}.{name}", self.at))).transpose()
    }

    /// A text that must be this one.
    pub fn is(&self, name: &'static str, want: &str) -> Read<()> {
        let got = self.text(name)?;
        if got == want { Ok(()) } else { Err(format!("{}.{name}: must be {want:?}, is {got:?}", self.at)) }
    }

    /// Whole numbers, within the least and the greatest.
    pub fn count(&self, name: &'static str) -> Read<Option<u64>> {
        let wrong = || format!("{}.{name}: must be a positive integer", self.at);
        self.get(name).map(|v| v.as_u64().filter(|n| *n > 0).ok_or_else(wrong)).transpose()
    }

    /// A number from 0 to `max`.
    pub fn number(&self, name: &'static str, max: f64) -> Read<Option<f64>> {
        let wrong = || format!("{}.{name}: must be a number from 0 to {max}", self.at);
        self.get(name).map(|v| v.as_f64().filter(|n| (0.0..=max).contains(n)).ok_or_else(wrong)).transpose()
    }

    /// A list of texts that may be missing.
    pub fn texts(&self, name: &'static str) -> Read<Vec<String>> {
        let wrong = || format!("{}.{name}: must be a list of strings", self.at);
        self.some_list(name)?.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// A flag that may be missing.
    pub fn flag(&self, name: &'static str) -> Read<Option<bool>> {
        self.get(name).map(|v| v.as_bool().ok_or_else(|| format!("{}.{name}: must be a boolean", self.at))).transpose()
    }

    /// Where this object stands.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Fails on a member that nobody asked about.
    pub fn end(self) -> Read<()> {
        let known = self.known.into_inner();
        match self.map.keys().find(|k| !known.contains(&k.as_str())) {
            Some(unknown) => Err(format!("{}: unknown member {unknown:?}: {}", self.at, self.map[unknown])),
            None => Ok(()),
        }
    }
}

/// `data:<media type>;base64,<data>`.
pub fn data_url(url: &str, at: &str) -> Read<Piece> {
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let (kind, data) = inline.ok_or_else(|| format!("{at}: must be a data: URL in base64"))?;
    Ok(Piece::Image(kind.to_owned(), data.to_owned()))
}

/// Arguments as text, which must be a JSON object.
pub fn arguments(text: &str, at: &str) -> Read<Value> {
    let parsed = serde_json::from_str::<Value>(text).map_err(|e| format!("{at}: {e}: {text:?}"))?;
    if parsed.is_object() { Ok(parsed) } else { Err(format!("{at}: must be an object: {text}")) }
}
