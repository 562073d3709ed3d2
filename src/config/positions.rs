//! Where each key of a YAML text stands: path (`routes[3].ai.tier`) -> line and column.

use saphyr_parser::{Event, Parser, Span};
use std::collections::HashMap;

/// The places of one file.
#[derive(Debug, Default)]
pub struct Positions {
    at: HashMap<String, (usize, usize)>,
}

enum Frame {
    Map { path: String, key: Option<String> },
    Seq { path: String, next: usize },
}

/// Joins a path and a key; keys that are no plain words are quoted.
pub fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

impl Positions {
    /// Reads a text; what cannot be parsed has no places (the real parser reports it).
    pub fn read(text: &str) -> Self {
        let mut out = Positions::default();
        let mut stack: Vec<Frame> = Vec::new();
        for item in Parser::new_from_str(text) {
            let Ok((event, span)) = item else { break };
            out.event(&mut stack, &event, &span);
        }
        out
    }

    fn event(&mut self, stack: &mut Vec<Frame>, event: &Event<'_>, span: &Span) {
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, ..) => {
                if let Some(Frame::Map { path, key: key @ None }) = stack.last_mut() {
                    self.at.insert(join(path, text), place);
                    *key = Some(text.to_string());
                } else {
                    self.value(stack, place);
                }
            }
            Event::Alias(_) => {
                self.value(stack, place);
            }
            Event::MappingStart(..) => {
                let path = self.value(stack, place);
                stack.push(Frame::Map { path, key: None });
            }
            Event::SequenceStart(..) => {
                let path = self.value(stack, place);
                stack.push(Frame::Seq { path, next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
            }
            _ => {}
        }
    }

    /// A value begins here: gives its path and moves the enclosing frame on. Keys keep the place of the key itself.
    fn value(&mut self, stack: &mut [Frame], place: (usize, usize)) -> String {
        match stack.last_mut() {
            None => String::new(),
            Some(Frame::Map { path, key }) => key.take().map_or_else(|| path.clone(), |k| join(path, &k)),
            Some(Frame::Seq { path, next }) => {
                let p = format!("{path}[{next}]");
                *next += 1;
                self.at.insert(p.clone(), place);
                p
            }
        }
    }

    /// Line and column of a path, or of its nearest enclosing path.
    pub fn find(&self, path: &str) -> Option<(usize, usize)> {
        let mut p = path;
        loop {
            if let Some(at) = self.at.get(p) {
                return Some(*at);
            }
            p = p.get(..p.rfind(['.', '['])?)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_items_and_falls_back_to_what_encloses() {
        let p = Positions::read("a:\n  b: 1\n  c:\n    - x\n    - { y: 2 }\n");
        assert_eq!(p.find("a.b"), Some((2, 3)));
        assert_eq!(p.find("a.c[1].y"), Some((5, 9)));
        assert_eq!(p.find("a.c[0].nothing"), Some((4, 7)));
        assert_eq!(p.find("zzz"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,200}") {
            Positions::read(&text);
        }
    }
}
