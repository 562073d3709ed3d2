//! Tests of what is particular to this dialect; the golden tables stand beside them.
