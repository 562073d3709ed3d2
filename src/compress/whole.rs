//! Bodies that are coded whole: fixed answers once and for all, stored objects on their first hit.

use super::encoder::{Effort, encoder};
use crate::base::coding::Coding;
use bytes::Bytes;
use std::io;

/// A coded form is kept only where it takes at most this share of the plain body, in percent: for less it is not worth
/// the memory, nor the client's time to decode it.
const KEEP_PERCENT_MAX: u64 = 90;

/// A whole body coded, in the pieces that came out; `None` where that saves less than a tenth.
///
/// # Errors
/// Where the encoder cannot go on.
pub fn encode(coding: Coding, effort: Effort, body: &[Bytes]) -> io::Result<Option<Vec<Bytes>>> {
    let plain: u64 = body.iter().map(|b| b.len() as u64).sum();
    let most = plain / 100 * KEEP_PERCENT_MAX + plain % 100 * KEEP_PERCENT_MAX / 100;
    let mut encoder = encoder(coding, effort, Some(plain))?;
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut keep = |piece: Bytes| {
        bytes += piece.len() as u64;
        if !piece.is_empty() {
            out.push(piece);
        }
        // What has outgrown the bound is not coded to its end.
        bytes <= most
    };
    for piece in body {
        if !keep(encoder.push(piece, false)?) {
            return Ok(None);
        }
    }
    Ok(keep(encoder.finish()?).then_some(out))
}

/// The coded forms of a fixed body, made when the configuration is compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precoded([Option<Bytes>; Coding::ALL.len()]);

impl Precoded {
    /// Codes a body in each of the codings; one that fails or saves nothing is left out.
    pub fn of(body: &Bytes, codings: &[Coding]) -> Self {
        let mut all = Precoded::default();
        for coding in codings {
            let made = encode(*coding, Effort::Kept, std::slice::from_ref(body)).unwrap_or(None);
            if let (Some(place), Some(made)) = (all.0.get_mut(coding.index()), made) {
                *place = Some(made.concat().into());
            }
        }
        all
    }

    /// The body in this coding.
    pub fn get(&self, coding: Coding) -> Option<&Bytes> {
        self.0.get(coding.index())?.as_ref()
    }
}
