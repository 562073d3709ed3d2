//! Whether JSON text that comes in fragments is whole.

/// Follows JSON text just far enough to know whether its outermost object is closed.
#[derive(Default)]
pub struct Whole {
    depth: usize,
    begun: bool,
    in_text: bool,
    escaped: bool,
}

impl Whole {
    /// Takes the next fragment.
    pub fn add(&mut self, text: &str) {
        for b in text.bytes() {
            match (self.in_text, b) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_text = !self.in_text,
                (false, b'{' | b'[') => (self.depth, self.begun) = (self.depth + 1, true),
                (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether an object or a list has begun and ended.
    pub fn is_whole(&self) -> bool {
        self.begun && self.depth == 0
    }
}
