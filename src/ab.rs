//! Experiments: a stable, weighted, sticky choice of an arm, and the cookie that makes a browser one unit.
//!
//! The choice is weighted rendezvous hashing: every arm draws a number from (experiment, unit, arm) and the smallest
//! draw divided by its weight wins. Nothing is stored, every node agrees, and the order of the arms does not matter.
//! Giving weight to an arm never takes a unit away from it, taking weight never brings it one; with two arms that means
//! that a shift moves units in one direction only. (With three or more, no memoryless scheme can keep every bystander
//! arm untouched; here such moves are the smallest side effect.)

use http::HeaderMap;
use http::header::COOKIE;
use std::borrow::Cow;
use std::net::IpAddr;
use xxhash_rust::xxh3::Xxh3;

/// The cookie that holds a browser's random id.
pub const UID_COOKIE: &str = "sg_uid";

/// One year, in seconds.
const UID_MAX_AGE_SECS: u32 = 31_536_000;

/// The index of the arm for `unit`, or `None` when no arm has any weight.
pub fn assign(experiment: &str, unit: &str, weights: &[(String, u32)]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (i, (arm, weight)) in weights.iter().enumerate() {
        if *weight == 0 {
            continue;
        }
        // An exponential draw with the weight as its rate: the smallest of them falls on each arm in proportion.
        let draw = -uniform(hash([experiment, unit, arm])).ln() / f64::from(*weight);
        if best.is_none_or(|(_, least)| draw < least) {
            best = Some((i, draw));
        }
    }
    best.map(|(i, _)| i)
}

/// The name of the arm for `unit`.
pub fn arm<'a>(experiment: &str, unit: &str, weights: &'a [(String, u32)]) -> Option<&'a str> {
    weights.get(assign(experiment, unit, weights)?).map(|(name, _)| name.as_str())
}

/// xxh3 over length-framed parts, so that `("ab","c")` and `("a","bc")` differ.
fn hash(parts: [&str; 3]) -> u64 {
    let mut h = Xxh3::new();
    for p in parts {
        h.update(&(p.len() as u64).to_le_bytes());
        h.update(p.as_bytes());
    }
    h.digest()
}

/// Strictly between 0 and 1, so that its logarithm is finite and negative.
fn uniform(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// What the same visitor is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit<'a> {
    /// The id from our cookie.
    Cookie(&'a str),
    /// The client's address (IPv6: its /64, since hosts change the rest at will).
    Client(String),
}

impl<'a> Unit<'a> {
    /// The cookie's id where the request has a well-formed one, else the client's address.
    pub fn of(headers: &'a HeaderMap, client: IpAddr) -> Self {
        uid(headers).map_or_else(|| Unit::Client(client_unit(client)), Unit::Cookie)
    }

    /// The text that [`assign`] takes.
    pub fn as_str(&self) -> &str {
        match self {
            Unit::Cookie(id) => id,
            Unit::Client(address) => address,
        }
    }

    /// The id that stands for the visitor, fit for the cookie: its own, or one made from the address. A visitor who
    /// gets the latter as a cookie stays the same unit, so the first visit and the next ones fall on the same arm.
    pub fn id(&self) -> String {
        match self {
            Unit::Cookie(id) => (*id).to_owned(),
            Unit::Client(address) => {
                let digest = crate::base::ids::sha256_parts([b"sg_uid".as_slice(), address.as_bytes()]);
                crate::base::ids::hex(digest.get(..16).unwrap_or(&digest))
            }
        }
    }

    /// Whether the visitor should be given a cookie.
    pub fn wants_cookie(&self) -> bool {
        matches!(self, Unit::Client(_))
    }
}

/// The `sg_uid` of a request; anything but 32 lower-case hex digits counts as absent.
pub fn uid(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == UID_COOKIE)
        .map(|(_, id)| id)
        .find(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// A new random id (122 random bits).
pub fn new_uid() -> String {
    uuid::Uuid::new_v4().as_simple().to_string()
}

/// The `Set-Cookie` value that makes `uid` stick for a year.
pub fn set_cookie(uid: &str, tls: bool) -> String {
    let secure: Cow<'static, str> = if tls { "; Secure".into() } else { "".into() };
    format!("{UID_COOKIE}={uid}; Path=/; Max-Age={UID_MAX_AGE_SECS}; SameSite=Lax; HttpOnly{secure}")
}

fn client_unit(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn arms(weights: &[u32]) -> Vec<(String, u32)> {
        weights.iter().enumerate().map(|(i, w)| (format!("arm{i}"), *w)).collect()
    }

    #[test]
    fn the_choice_is_fixed_for_ever() {
        // A changed hash would move every visitor of every running experiment.
        let two = [("control".to_owned(), 90), ("candidate".to_owned(), 10)];
        let picked: Vec<_> = (0..12).filter_map(|i| assign("checkout", &format!("u{i}"), &two)).collect();
        assert_eq!(picked, [0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn shares_follow_the_weights() {
        let w = arms(&[70, 20, 10]);
        let mut counts = [0_u32; 3];
        for i in 0..20_000 {
            counts[assign("exp", &format!("user-{i}"), &w).unwrap()] += 1;
        }
        for (got, want) in counts.iter().zip([14_000_u32, 4_000, 2_000]) {
            assert!(got.abs_diff(want) < 300, "{counts:?}");
        }
    }

    #[test]
    fn experiments_are_independent_of_each_other() {
        let w = arms(&[50, 50]);
        let same = (0..4000).filter(|i| assign("a", &i.to_string(), &w) == assign("b", &i.to_string(), &w)).count();
        assert!((1800..2200).contains(&same), "{same}");
    }

    #[test]
    fn nobody_is_chosen_when_nothing_has_weight() {
        assert_eq!(assign("e", "u", &[]), None);
        assert_eq!(arm("e", "u", &arms(&[0, 0])), None);
        assert_eq!(arm("e", "u", &arms(&[0, 7])), Some("arm1"));
    }

    #[test]
    fn the_framing_keeps_neighbours_apart() {
        assert_ne!(hash(["ab", "c", "x"]), hash(["a", "bc", "x"]));
        assert_ne!(hash(["a", "", "bx"]), hash(["a", "b", "x"]));
    }

    proptest! {
        #[test]
        fn stable_and_blind_to_order(unit in ".{0,40}", w in proptest::collection::vec(0_u32..1000, 1..6)) {
            let a = arms(&w);
            let mut b = a.clone();
            b.reverse();
            prop_assert_eq!(arm("e", &unit, &a), arm("e", &unit, &a));
            prop_assert_eq!(arm("e", &unit, &a), arm("e", &unit, &b));
            if let Some(i) = assign("e", &unit, &a) { prop_assert!(w[i] > 0); }
        }

        #[test]
        fn with_two_arms_a_shift_moves_units_one_way(unit in "[a-z0-9]{1,20}", from in 0_u32..=100, shift in 0_u32..=100) {
            let shift = shift.min(from);
            let before = assign("e", &unit, &arms(&[from, 100 - from]));
            let after = assign("e", &unit, &arms(&[from - shift, 100 - from + shift]));
            prop_assert!(before == after || (before, after) == (Some(0), Some(1)));
        }

        #[test]
        fn the_grown_arm_loses_nobody_and_the_shrunk_arm_gains_nobody(
            unit in "[a-z0-9]{1,20}", w in proptest::collection::vec(1_u32..100, 3..6), shift in 1_u32..100,
        ) {
            let shift = shift.min(w[0]);
            let mut moved = w.clone();
            moved[0] -= shift;
            moved[1] += shift;
            let (before, after) = (assign("e", &unit, &arms(&w)), assign("e", &unit, &arms(&moved)));
            if before == Some(1) { prop_assert_eq!(after, Some(1)); }
            if before != Some(0) { prop_assert_ne!(after, Some(0)); }
        }

        #[test]
        fn new_weight_only_attracts(unit in "[a-z0-9]{1,20}", w in proptest::collection::vec(0_u32..100, 2..6), more in 1_u32..100) {
            let mut grown = w.clone();
            grown[0] += more;
            let (before, after) = (assign("e", &unit, &arms(&w)), assign("e", &unit, &arms(&grown)));
            prop_assert!(before == after || after == Some(0));
        }

        #[test]
        fn any_cookie_text_is_survived(text in "\\PC{0,80}") {
            let mut h = HeaderMap::new();
            if let Ok(v) = HeaderValue::from_str(&text) { h.insert(COOKIE, v); }
            let _ = uid(&h);
        }
    }

    #[test]
    fn the_cookie_wins_and_only_when_well_formed() {
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let id = new_uid();
        let mut h = HeaderMap::new();
        assert_eq!(Unit::of(&h, client), Unit::Client("192.0.2.7".into()));
        h.append(COOKIE, HeaderValue::from_static("a=b; sg_uid=../../etc; sg_uid2=x"));
        assert!(Unit::of(&h, client).wants_cookie());
        h.append(COOKIE, HeaderValue::from_str(&format!("x=1;sg_uid={id}")).unwrap());
        assert_eq!(Unit::of(&h, client), Unit::Cookie(&id));
        assert_eq!(Unit::of(&h, client).as_str(), id);
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let h = HeaderMap::new();
        let a = Unit::of(&h, "2001:db8:1:2:aaaa::1".parse().unwrap());
        assert_eq!(a, Unit::of(&h, "2001:db8:1:2:bbbb::2".parse().unwrap()));
        assert_ne!(a, Unit::of(&h, "2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(Unit::of(&h, "::ffff:192.0.2.7".parse().unwrap()).as_str(), "192.0.2.7");
    }

    #[test]
    fn set_cookie_has_every_attribute() {
        let c = set_cookie("0123", false);
        assert_eq!(c, "sg_uid=0123; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly");
        assert_eq!(set_cookie("0123", true), format!("{c}; Secure"));
    }
}
