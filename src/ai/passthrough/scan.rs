//! The top-level members of a JSON object, found while its bytes go by: no tree is built, nothing is held but the value
//! that is wanted. What it accepts is not always JSON; what JSON it is given, it reads as every parser does.

use std::ops::Range;

/// How deep a document may nest.
const DEPTH_MAX: usize = 100;
/// Bytes of a key that are looked at, with room for every letter being an escape.
const KEY_BYTES_MAX: usize = 128;

/// Why a document is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// It does not begin with `{`, or something follows its end.
    #[error("the body must be one JSON object")]
    NoObject,
    /// It nests too deep.
    #[error("the JSON nests deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// Parsers disagree on which of two equal names counts.
    #[error("the member {0:?} stands there twice")]
    Twice(&'static str),
}

/// A wanted member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: &'static str,
    /// Where its value stands, counted from the first byte.
    pub span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before the object.
    Before,
    /// A key, or the end of the object, is next.
    Key,
    /// Within a key.
    InKey,
    /// The colon is next.
    Colon,
    /// A value is next.
    Value,
    /// Within a value.
    InValue,
    /// The object has ended.
    After,
}

/// The scanner.
#[derive(Debug)]
pub struct Members {
    wanted: &'static [&'static str],
    found: Vec<Found>,
    captured: Vec<u8>,
    capture_bytes_max: usize,
    part: Part,
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    key: Vec<u8>,
    value: Option<(&'static str, usize)>,
}

impl Members {
    /// Looks for members of these names.
    pub fn new(wanted: &'static [&'static str]) -> Self {
        Members {
            wanted,
            found: Vec::new(),
            captured: Vec::new(),
            capture_bytes_max: 0,
            part: Part::Before,
            at: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            key: Vec::new(),
            value: None,
        }
    }

    /// Keeps the bytes of the last wanted value, where they are so many at most.
    pub fn capturing(wanted: &'static [&'static str], bytes_max: usize) -> Self {
        Members { capture_bytes_max: bytes_max, ..Members::new(wanted) }
    }

    /// What was found so far, in order.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The bytes of the last wanted value that has ended.
    pub fn captured(&self) -> Option<&[u8]> {
        let whole = self.captured.len() <= self.capture_bytes_max && self.value.is_none();
        (whole && !self.found.is_empty()).then_some(self.captured.as_slice())
    }

    /// Whether the object has ended.
    pub fn ended(&self) -> bool {
        self.part == Part::After
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        for b in bytes {
            self.byte(*b)?;
            self.at += 1;
        }
        Ok(())
    }

    fn byte(&mut self, b: u8) -> Result<(), ScanError> {
        match self.part {
            Part::InValue => return self.in_value(b),
            Part::InKey => self.in_key(b)?,
            _ if b.is_ascii_whitespace() => {}
            Part::Before if b == b'{' => (self.part, self.depth) = (Part::Key, 1),
            Part::Before | Part::After => return Err(ScanError::NoObject),
            Part::Key => match b {
                b'"' => {
                    self.key.clear();
                    self.part = Part::InKey;
                }
                b'}' => self.part = Part::After,
                // The comma between members.
                _ => {}
            },
            Part::Colon if b == b':' => self.part = Part::Value,
            Part::Colon => return Err(ScanError::NoObject),
            Part::Value => {
                self.begin_value();
                return self.in_value(b);
            }
        }
        Ok(())
    }

    fn in_key(&mut self, b: u8) -> Result<(), ScanError> {
        match b {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.part = Part::Colon;
                return Ok(());
            }
            _ => {}
        }
        // A longer key is none of those wanted; one byte more than is looked at keeps it so.
        if self.key.len() <= KEY_BYTES_MAX {
            self.key.push(b);
        }
        Ok(())
    }

    fn begin_value(&mut self) {
        self.part = Part::InValue;
        let name = self.wanted_name();
        if name.is_some() {
            self.captured.clear();
        }
        self.value = name.map(|n| (n, self.at));
    }

    /// The wanted name that the key spells, its escapes read.
    fn wanted_name(&self) -> Option<&'static str> {
        let quoted = [b"\"".as_slice(), &self.key, b"\""].concat();
        let key: String = serde_json::from_slice(&quoted).ok()?;
        self.wanted.iter().copied().find(|w| *w == key)
    }

    fn in_value(&mut self, b: u8) -> Result<(), ScanError> {
        if self.in_string {
            match b {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            self.keep(b);
            if !self.in_string && self.depth == 1 {
                self.end_value(self.at + 1)?;
            }
            return Ok(());
        }
        match b {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(ScanError::TooDeep);
                }
            }
            b'}' | b']' if self.depth > 1 => {
                self.depth -= 1;
                if self.depth == 1 {
                    self.keep(b);
                    return self.end_value(self.at + 1);
                }
            }
            b'}' | b']' => {
                self.end_value(self.at)?;
                self.part = Part::After;
                return Ok(());
            }
            b',' if self.depth == 1 => return self.end_value(self.at),
            b if b.is_ascii_whitespace() && self.depth == 1 => return self.end_value(self.at),
            _ => {}
        }
        self.keep(b);
        Ok(())
    }

    fn keep(&mut self, b: u8) {
        if self.value.is_some() && self.captured.len() <= self.capture_bytes_max && self.capture_bytes_max > 0 {
            self.captured.push(b);
        }
    }

    fn end_value(&mut self, end: usize) -> Result<(), ScanError> {
        self.part = Part::Key;
        let Some((name, start)) = self.value.take() else { return Ok(()) };
        if self.found.iter().any(|f| f.name == name) {
            return Err(ScanError::Twice(name));
        }
        self.found.push(Found { name, span: start..end });
        Ok(())
    }
}
