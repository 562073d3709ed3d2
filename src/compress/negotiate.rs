//! Which coding a client wants most (RFC 9110 §12.5.3, weights §12.4.2).

use crate::base::coding::Coding;
use http::{HeaderMap, header};

/// Weights in thousandths; `None` is a coding that the field does not list.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    listed: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

/// The coding with the highest weight among `offered`, the first of them where weights are equal; `None` where the answer
/// goes as it is: without the field, with nothing acceptable in it, or with `identity` wanted more.
///
/// A client that refuses `identity` and everything offered gets `identity` all the same: the field is a wish, and an
/// answer that it may not like is better than none (§12.5.3).
pub fn best(request: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    if !request.contains_key(header::ACCEPT_ENCODING) {
        return None;
    }
    let wishes = Wishes::of(request);
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = wishes.weight(*coding);
        if weight > best.map_or(0, |(_, w)| w) {
            best = Some((*coding, weight));
        }
    }
    // `identity` counts against a coding only where the client names it; `*` speaks of what is not named.
    best.filter(|(_, w)| wishes.identity.is_none_or(|i| *w >= i)).map(|(c, _)| c)
}

impl Wishes {
    fn of(request: &HeaderMap) -> Self {
        let mut wishes = Wishes::default();
        for line in request.get_all(header::ACCEPT_ENCODING) {
            for member in line.as_bytes().split(|b| *b == b',') {
                wishes.add(member);
            }
        }
        wishes
    }

    fn add(&mut self, member: &[u8]) {
        let mut parts = member.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let place = if name == b"*" {
            &mut self.any
        } else if name.eq_ignore_ascii_case(b"identity") {
            &mut self.identity
        } else {
            let known = Coding::named(name).and_then(|c| self.listed.get_mut(c.index()));
            let Some(place) = known else { return };
            place
        };
        // One whose weight cannot be read is as if it were not listed.
        let Some(weight) = parts.find_map(weight_param).unwrap_or(Some(WEIGHT_MAX)) else { return };
        // Named twice (`gzip, x-gzip;q=0.5`), the higher wish counts.
        *place = Some(place.map_or(weight, |w| w.max(weight)));
    }

    fn weight(&self, coding: Coding) -> u16 {
        self.listed.get(coding.index()).copied().flatten().or(self.any).unwrap_or(0)
    }
}

const WEIGHT_MAX: u16 = 1000;

/// The value of a `q=` parameter; `Some(None)` when it is malformed, `None` for another parameter.
fn weight_param(param: &[u8]) -> Option<Option<u16>> {
    let (name, value) = param.split_at(param.iter().position(|b| *b == b'=')?);
    if !name.trim_ascii().eq_ignore_ascii_case(b"q") {
        return None;
    }
    Some(thousandths(value.strip_prefix(b"=").unwrap_or_default().trim_ascii()))
}

/// `0`, `0.5`, `1.000`: up to three decimals, at most 1.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &[][..]),
    };
    if !(whole == b"0" || whole == b"1") || decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| u16::from(decimals.get(at).map_or(0, |d| d - b'0'));
    let parts = digit(0) * 100 + digit(1) * 10 + digit(2);
    let value = if whole == b"1" { WEIGHT_MAX + parts } else { parts };
    (value <= WEIGHT_MAX).then_some(value)
}
