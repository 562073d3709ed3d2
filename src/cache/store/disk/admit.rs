//! Who may be written: a small table of the slots asked for lately, so that what is asked for only once never costs a
//! write.

use super::index::SlotId;
use std::sync::atomic::{AtomicU32, Ordering};

/// Remembers slots in a fixed number of places; a newcomer pushes out whoever has its place.
#[derive(Debug)]
pub struct Recent {
    places: Vec<AtomicU32>,
}

/// One place for so many bytes on disk: about the length of a small object.
const BYTES_PER_PLACE: u64 = 16 << 10;

impl Recent {
    /// For a disk level of this size; at most 4 MiB of memory.
    pub fn new(size_bytes: u64) -> Self {
        let places = (size_bytes / BYTES_PER_PLACE).clamp(1 << 12, 1 << 20).next_power_of_two();
        Recent { places: (0..places).map(|_| AtomicU32::new(0)).collect() }
    }

    /// Notes a slot; says whether it was noted before.
    pub fn seen(&self, id: &SlotId) -> bool {
        let mixed = (id.group ^ id.rest.rotate_left(23) ^ u64::from(id.variant)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = usize::try_from((mixed >> 16) % self.places.len() as u64).unwrap_or(0);
        let mark = u32::try_from(mixed >> 32).unwrap_or(1) | 1;
        self.places.get(at).is_some_and(|p| p.swap(mark, Ordering::Relaxed) == mark)
    }
}
