//! The small fields of a multipart form (RFC 7578), found while its bytes go by. Of a file nothing is kept. Forms that
//! parsers could read in two ways are refused.

use super::scan::Found;
use memchr::memmem::Finder;

/// The longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// The longest header of one part.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Parts of one form.
const PARTS_MAX: usize = 512;

/// Why a form is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// `Content-Type` names no usable boundary.
    #[error("the content type has no boundary of 1 to {BOUNDARY_BYTES_MAX} characters")]
    Boundary,
    /// A part without a plain name, or with more than one.
    #[error("part {0} of the form has no header with one plain name")]
    Name(usize),
    /// Too many parts, or too long a header.
    #[error("the form has too many parts, or a part with too long a header")]
    TooLarge,
    /// A field is given twice.
    #[error("the field {0:?} stands there twice")]
    Twice(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter, or in a part's content.
    Content,
    /// Right after a delimiter: the line ends, or the form does.
    Delimited,
    /// In a part's header.
    Header,
    /// After the last delimiter.
    Ended,
}

/// The reader.
#[derive(Debug)]
pub struct Form {
    wanted: &'static [&'static str],
    found: Vec<Found>,
    delimiter: Finder<'static>,
    delimiter_len: usize,
    state: State,
    /// Bytes not decided on yet: at most a header, or a delimiter's length of content.
    rest: Vec<u8>,
    /// Where `rest` begins in the form.
    at: usize,
    parts: usize,
    value: Option<(&'static str, usize)>,
}

impl Form {
    /// Looks for fields of these names in a form of this content type.
    pub fn new(content_type: &str, wanted: &'static [&'static str]) -> Result<Form, FormError> {
        let boundary = boundary(content_type).ok_or(FormError::Boundary)?;
        let delimiter = format!("\r\n--{boundary}");
        // The first delimiter needs no line before it: read as if there were one, which the positions leave out.
        let rest = b"\r\n".to_vec();
        let delimiter_len = delimiter.len();
        let delimiter = Finder::new(delimiter.as_bytes()).into_owned();
        let (found, state) = (Vec::new(), State::Content);
        Ok(Form { wanted, found, delimiter, delimiter_len, state, rest, at: 0, parts: 0, value: None })
    }

    /// What was found so far, in order.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// Whether the last delimiter has come.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FormError> {
        if self.state == State::Ended {
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// One step; false when more bytes are needed.
    fn step(&mut self) -> Result<bool, FormError> {
        match self.state {
            State::Content => self.content(),
            State::Delimited => self.delimited(),
            State::Header => self.header(),
            State::Ended => {
                self.rest = Vec::new();
                Ok(false)
            }
        }
    }

    fn content(&mut self) -> Result<bool, FormError> {
        if let Some(end) = self.delimiter.find(&self.rest) {
            self.end_value(self.at + end)?;
            self.skip(end + self.delimiter_len);
            self.state = State::Delimited;
            return Ok(true);
        }
        let undecided = self.delimiter_len.saturating_sub(1);
        self.skip(self.rest.len().saturating_sub(undecided));
        Ok(false)
    }

    /// `--` ends the form; white space and a line end begin a part. Anything else is content that looks alike.
    fn delimited(&mut self) -> Result<bool, FormError> {
        let padding = self.rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if padding > BOUNDARY_BYTES_MAX {
            return Err(FormError::TooLarge);
        }
        let (Some(first), Some(second)) = (self.rest.get(padding), self.rest.get(padding + 1)) else {
            return Ok(false);
        };
        match (padding, *first, *second) {
            (0, b'-', b'-') => self.state = State::Ended,
            (_, b'\r', b'\n') => {
                self.parts += 1;
                // The line end stays: a header may be empty, and then its blank line is this one and the next.
                self.skip(padding);
                self.state = State::Header;
            }
            _ => return Err(FormError::Name(self.parts)),
        }
        Ok(true)
    }

    fn header(&mut self) -> Result<bool, FormError> {
        let Some(end) = memchr::memmem::find(&self.rest, b"\r\n\r\n") else {
            return if self.rest.len() > HEADER_BYTES_MAX { Err(FormError::TooLarge) } else { Ok(false) };
        };
        if end > HEADER_BYTES_MAX || self.parts > PARTS_MAX {
            return Err(FormError::TooLarge);
        }
        let header = self.rest.get(..end).unwrap_or_default();
        let name = name(header).ok_or(FormError::Name(self.parts))?;
        let wanted = self.wanted.iter().copied().find(|w| *w == name);
        // The blank line's own end may be the beginning of the next delimiter, where the content is empty.
        self.skip(end + 2);
        self.value = wanted.map(|w| (w, self.at + 2));
        self.state = State::Content;
        Ok(true)
    }

    fn end_value(&mut self, end: usize) -> Result<(), FormError> {
        let Some((name, start)) = self.value.take() else { return Ok(()) };
        if self.found.iter().any(|f| f.name == name) {
            return Err(FormError::Twice(name));
        }
        // Two bytes were set before the form's first.
        let start = start.saturating_sub(2);
        self.found.push(Found { name, span: start..end.saturating_sub(2).max(start) });
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest.len());
        self.rest.drain(..bytes);
        self.at += bytes;
    }
}

/// The boundary that a content type names.
fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut all = parameters.split(';').filter_map(|p| p.trim().split_once('='));
    let is_boundary = |(name, _): &(&str, &str)| name.trim().eq_ignore_ascii_case("boundary");
    let (_, value) = all.by_ref().find(is_boundary)?;
    if all.any(|p| is_boundary(&p)) {
        return None;
    }
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&value.len());
    let plain = value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    (fits && plain).then(|| value.to_owned())
}

/// The name in a part's header: of one `Content-Disposition`, given once, without escapes.
fn name(header: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(header).ok()?;
    let mut fields = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let is_disposition = |(name, _): &(&str, &str)| name.trim().eq_ignore_ascii_case("content-disposition");
    let (_, value) = fields.by_ref().find(is_disposition)?;
    if fields.any(|f| is_disposition(&f)) {
        return None;
    }
    let mut names = parameters(value)?.into_iter().filter(|(key, _)| key == "name" || key == "name*");
    let (key, name) = names.next()?;
    (key == "name" && names.next().is_none() && !name.contains('\\')).then_some(name)
}

/// The parameters of a field value; quoted ones may hold semicolons.
fn parameters(value: &str) -> Option<Vec<(String, String)>> {
    let mut out = Vec::new();
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = closing(quoted)?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        out.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        match left.trim_start().strip_prefix(';') {
            Some(more) => rest = more,
            None if left.trim().is_empty() => return Some(out),
            None => return None,
        }
    }
}

/// The place of the closing quote.
fn closing(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })
}
