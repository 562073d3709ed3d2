//! Which model answered what belongs together the last time: a bounded table that outlives reloads.

use crate::base::ids::sha256_parts;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// Bonds that are kept; the least used go first. One takes about 150 bytes.
const BONDS_MAX: u64 = 65_536;

/// What stands for things that belong together.
pub type BondKey = [u8; 32];

/// The table.
#[derive(Debug)]
pub struct Bonds {
    table: Cache<BondKey, (Arc<str>, Duration)>,
}

impl Default for Bonds {
    fn default() -> Self {
        Bonds { table: Cache::new(BONDS_MAX) }
    }
}

/// A digest of what belongs together, within its owner's: no bond crosses tenants, routes or targets.
pub fn key<'a>(owner: [&'a str; 3], what: impl IntoIterator<Item = &'a [u8]>) -> BondKey {
    let [tenant, route, target] = owner.map(str::as_bytes);
    sha256_parts([b"bond".as_slice(), tenant, route, target].into_iter().chain(what))
}

impl Bonds {
    /// The model that answered less than `ttl` ago.
    pub fn model(&self, key: &BondKey, ttl: Duration, now: Duration) -> Option<Arc<str>> {
        let (model, at) = self.table.get(key)?;
        (now.saturating_sub(at) < ttl).then_some(model)
    }

    /// This model has answered.
    pub fn keep(&self, key: BondKey, model: &str, now: Duration) {
        self.table.insert(key, (model.into(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_ends_with_its_time_and_is_renewed_by_use() {
        let (bonds, s) = (Bonds::default(), Duration::from_secs);
        let key = key(["t", "r", "cheap"], [b"c".as_slice()]);
        bonds.keep(key, "a", s(0));
        assert_eq!(bonds.model(&key, s(10), s(9)).as_deref(), Some("a"));
        assert_eq!(bonds.model(&key, s(10), s(10)), None);
        bonds.keep(key, "b", s(9));
        assert_eq!(bonds.model(&key, s(10), s(18)).as_deref(), Some("b"));
    }

    #[test]
    fn bonds_cross_no_owner() {
        let of = |owner| key(owner, [b"c".as_slice()]);
        let all = [of(["t", "r", "x"]), of(["t2", "r", "x"]), of(["t", "r2", "x"]), of(["t", "r", "x2"])];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| a != b));
        }
    }
}
