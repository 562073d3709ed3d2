//! The rules that look-ups check, by exact name: one look-up for everything, host and URL, one for each tag, one for each
//! length that prefix rules have. Readers share the locks of shards; one writer at a time changes them.
//!
//! There are at most [`RULES_MAX`] rules of [`RULES_BYTES_MAX`] bytes together. One more makes rules coarser: those on
//! the URLs of one host become one on the host, and where that does not help, all become one on everything. So a purge
//! may concern more than was asked for, but none is forgotten.

use super::super::key::{UrlParts, url_parts};
use super::rule::{Kind, Rule, path_start, prefix_host, prefix_text, tag_of_host};
use super::{Filed, Gate};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use xxhash_rust::xxh3::xxh3_64;

/// Most rules held.
pub const RULES_MAX: usize = 1 << 17;

/// Bytes of all names together.
pub const RULES_BYTES_MAX: usize = 32 << 20;

/// Most different lengths of prefix rules: so many look-ups a check may cost.
pub const PREFIX_LENGTHS_MAX: usize = 64;

/// Soft purges of one name that are told apart; of more, the earlier ones count from the first of them.
const SOFT_MAX: usize = 4;

/// A host with fewer rules than this is not worth a rule on the whole host.
const FOLD_MIN: usize = 64;

const SHARDS: usize = 16;

/// When one name was purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Generation of the last hard purge; 0 for none.
    pub hard: u64,
    /// Generations and times (nanoseconds since 1970) of soft purges after that, oldest first.
    pub soft: Vec<(u64, u64)>,
}

impl Marks {
    pub fn add(&mut self, soft: bool, generation: u64, since: u64) {
        if !soft {
            self.hard = self.hard.max(generation);
            // What those concern is void now.
            let hard = self.hard;
            self.soft.retain(|(g, _)| *g > hard);
            return;
        }
        self.soft.push((generation, since));
        self.soft.sort_unstable();
        if self.soft.len() > SOFT_MAX {
            let (_, first) = self.soft.remove(0);
            self.soft.iter_mut().take(1).for_each(|s| s.1 = s.1.min(first));
        }
    }

    fn merge(&mut self, other: &Marks) {
        if other.hard > 0 {
            self.add(false, other.hard, 0);
        }
        let newer = other.soft.iter().filter(|(g, _)| *g > self.hard).copied().collect::<Vec<_>>();
        newer.into_iter().for_each(|(g, since)| self.add(true, g, since));
    }

    fn forget(&mut self, floor: u64) {
        if self.hard <= floor {
            self.hard = 0;
        }
        self.soft.retain(|(g, _)| *g > floor);
    }

    fn is_empty(&self) -> bool {
        self.hard == 0 && self.soft.is_empty()
    }

    fn judge(&self, filed: u64, so_far: &mut Verdict) {
        so_far.void |= self.hard > filed;
        if let Some((_, since)) = self.soft.iter().find(|(g, _)| *g > filed) {
            so_far.since = Some(so_far.since.map_or(*since, |s| s.min(*since)));
        }
    }
}

#[derive(Default)]
struct Verdict {
    void: bool,
    since: Option<u64>,
}

impl Verdict {
    fn gate(&self) -> Gate {
        match self.since {
            _ if self.void => Gate::Void,
            Some(nanos) => Gate::Stale { since: at(nanos) },
            None => Gate::Live,
        }
    }
}

/// A time from nanoseconds since 1970.
pub(super) fn at(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// Names with the byte of their kind before them.
type Names = HashMap<Box<[u8]>, Marks>;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Rules {
    all: ArcSwap<Marks>,
    shards: [RwLock<Names>; SHARDS],
    prefix_lengths: ArcSwap<Vec<usize>>,
    tags_of_hosts: AtomicBool,
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// Rules from which on it is crowded: an eighth of the bound.
const CROWD: usize = 16_384;
/// And bytes of names.
const CROWD_BYTES: usize = 4 << 20;

fn shard_of(name: &[u8]) -> usize {
    usize::try_from(xxh3_64(name) % SHARDS as u64).unwrap_or(0)
}

fn named(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    [&[kind.code()], bytes].concat()
}

impl Rules {
    /// How many rules are held.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed) + usize::from(!self.all.load().is_empty())
    }

    /// Whether so many are held that clients should not be able to add more at will.
    pub fn is_crowded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > CROWD || self.bytes.load(Ordering::Relaxed) > CROWD_BYTES
    }

    // Nothing panics under these locks, and their data would still be whole if it did.
    fn read(&self, name: &[u8]) -> Option<RwLockReadGuard<'_, Names>> {
        Some(self.shards.get(shard_of(name))?.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(shard: &RwLock<Names>) -> RwLockWriteGuard<'_, Names> {
        shard.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges an object that counts as filed at generation `filed`.
    pub fn judge(&self, filed: u64, tags: &Filed, key: &[u8]) -> Gate {
        let mut verdict = Verdict::default();
        self.all.load().judge(filed, &mut verdict);
        if verdict.void || self.count.load(Ordering::Acquire) == 0 {
            return verdict.gate();
        }
        // Bytes that are no key could be anybody's.
        let Some(url) = url_parts(key) else { return Gate::Void };
        let mut look = |kind: Kind, bytes: &[u8]| self.look(&named(kind, bytes), filed, &mut verdict);
        look(Kind::Host, url.host);
        look(Kind::Url, url.bytes);
        for tag in tags.tags.iter() {
            look(Kind::Tag, tag.as_bytes());
        }
        if self.tags_of_hosts.load(Ordering::Relaxed) {
            tags.tags.iter().for_each(|tag| look(Kind::Tag, &tag_of_host(tag.as_bytes(), url.host)));
        }
        self.prefixes(&url, filed, &mut verdict);
        verdict.gate()
    }

    fn look(&self, name: &[u8], filed: u64, verdict: &mut Verdict) {
        if let Some(marks) = self.read(name).as_ref().and_then(|names| names.get(name)) {
            marks.judge(filed, verdict);
        }
    }

    fn prefixes(&self, url: &UrlParts<'_>, filed: u64, verdict: &mut Verdict) {
        let lengths = self.prefix_lengths.load();
        if lengths.is_empty() {
            return;
        }
        let text = prefix_text(url);
        let scheme = url.scheme.len() + 1;
        let both = [named(Kind::Prefix, &text), named(Kind::Prefix, text.get(scheme..).unwrap_or_default())];
        for length in lengths.iter() {
            for name in both.iter().filter_map(|text| text.get(..=*length)) {
                self.look(name, filed, verdict);
            }
        }
    }

    /// Takes a rule up. One writer at a time.
    pub fn add(&self, rule: &Rule, generation: u64, since: u64) {
        let mut marks = Marks::default();
        marks.add(rule.soft, generation, since);
        self.merge(rule.kind, &rule.bytes, &marks);
        if self.count.load(Ordering::Relaxed) > RULES_MAX || self.bytes.load(Ordering::Relaxed) > RULES_BYTES_MAX {
            self.coarsen();
        }
    }

    pub(super) fn merge(&self, kind: Kind, bytes: &[u8], marks: &Marks) {
        match kind {
            Kind::All => self.everything(marks),
            Kind::Prefix => self.prefix(bytes, marks),
            Kind::Tag if bytes.contains(&super::rule::TAG_HOST) => {
                self.tags_of_hosts.store(true, Ordering::Relaxed);
                self.put(named(kind, bytes), marks);
            }
            _ => self.put(named(kind, bytes), marks),
        }
    }

    fn everything(&self, marks: &Marks) {
        let mut all = Marks::clone(&self.all.load());
        all.merge(marks);
        self.all.store(Arc::new(all));
    }

    fn put(&self, name: Vec<u8>, marks: &Marks) {
        let Some(shard) = self.shards.get(shard_of(&name)) else { return };
        let bytes = name.len();
        let mut names = Rules::write(shard);
        let before = names.len();
        names.entry(name.into()).or_default().merge(marks);
        if names.len() > before {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// A prefix of a new length, where there are too many lengths, becomes a shorter one, or one on its host.
    fn prefix(&self, text: &[u8], marks: &Marks) {
        let lengths = self.prefix_lengths.load();
        let length = text.len();
        if lengths.contains(&length) || lengths.len() < PREFIX_LENGTHS_MAX {
            if !lengths.contains(&length) {
                let mut more = Vec::clone(&lengths);
                more.push(length);
                self.prefix_lengths.store(Arc::new(more));
            }
            return self.put(named(Kind::Prefix, text), marks);
        }
        let least = path_start(text).map_or(usize::MAX, |at| at + 1);
        match lengths.iter().filter(|l| (least..length).contains(*l)).max() {
            Some(shorter) => self.put(named(Kind::Prefix, text.get(..*shorter).unwrap_or(text)), marks),
            None => match prefix_host(text) {
                Some(host) => self.put(named(Kind::Host, host), marks),
                None => self.everything(marks),
            },
        }
    }

    /// Makes room: see the file's head. Every rule is looked at, once for many thousand purges.
    fn coarsen(&self) {
        let mut hosts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        self.each(|kind, bytes, _| {
            if let Some(host) = host_of(kind, bytes) {
                *hosts.entry(host.to_vec()).or_default() += 1;
            }
        });
        let mut largest: Vec<_> = hosts.into_iter().filter(|(_, n)| *n >= FOLD_MIN).collect();
        largest.sort_unstable_by_key(|(_, n)| std::cmp::Reverse(*n));
        for (host, _) in largest {
            if self.has_room() {
                break;
            }
            tracing::warn!(host = %String::from_utf8_lossy(&host), "too many purge rules: the whole host is purged");
            self.fold(|kind, bytes| host_of(kind, bytes) == Some(host.as_slice()), Some(&host));
        }
        if !self.has_room() {
            tracing::warn!("too many purge rules: everything is purged");
            self.fold(|_, _| true, None);
        }
        self.measure_prefixes();
    }

    fn has_room(&self) -> bool {
        let part = |n: usize| n / 4 * 3;
        self.count.load(Ordering::Relaxed) <= part(RULES_MAX)
            && self.bytes.load(Ordering::Relaxed) <= part(RULES_BYTES_MAX)
    }

    /// Makes one rule of several: on a host, or on everything. The new one stands before the old ones go, so that no
    /// reader finds neither.
    fn fold(&self, which: impl Fn(Kind, &[u8]) -> bool, into_host: Option<&[u8]>) {
        let mut together = Marks::default();
        self.each(|kind, bytes, marks| {
            if which(kind, bytes) {
                together.merge(marks);
            }
        });
        match into_host {
            Some(host) => self.put(named(Kind::Host, host), &together),
            None => self.everything(&together),
        }
        self.retain(|kind, bytes, _| !which(kind, bytes));
    }

    fn retain(&self, mut keep: impl FnMut(Kind, &[u8], &mut Marks) -> bool) {
        for shard in &self.shards {
            Rules::write(shard).retain(|name, marks| {
                let kept = name
                    .split_first()
                    .and_then(|(code, bytes)| Some((Kind::of_code(*code)?, bytes)))
                    .is_some_and(|(kind, bytes)| keep(kind, bytes, marks));
                if !kept {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    self.bytes.fetch_sub(name.len(), Ordering::Relaxed);
                }
                kept
            });
        }
    }

    /// Lets go of rules of this generation and before.
    pub fn forget(&self, floor: u64) {
        let mut all = Marks::clone(&self.all.load());
        all.forget(floor);
        self.all.store(Arc::new(all));
        self.retain(|_, _, marks| {
            marks.forget(floor);
            !marks.is_empty()
        });
        self.measure_prefixes();
    }

    fn measure_prefixes(&self) {
        let (mut lengths, mut tags_of_hosts) = (Vec::new(), false);
        self.each(|kind, bytes, _| {
            tags_of_hosts |= kind == Kind::Tag && bytes.contains(&super::rule::TAG_HOST);
            if kind == Kind::Prefix && !lengths.contains(&bytes.len()) {
                lengths.push(bytes.len());
            }
        });
        self.prefix_lengths.store(Arc::new(lengths));
        self.tags_of_hosts.store(tags_of_hosts, Ordering::Relaxed);
    }

    /// Shows every rule.
    pub fn each(&self, mut show: impl FnMut(Kind, &[u8], &Marks)) {
        let all = self.all.load();
        if !all.is_empty() {
            show(Kind::All, &[], &all);
        }
        for shard in &self.shards {
            for (name, marks) in shard.read().unwrap_or_else(PoisonError::into_inner).iter() {
                if let Some((kind, bytes)) = name.split_first().and_then(|(c, b)| Some((Kind::of_code(*c)?, b))) {
                    show(kind, bytes, marks);
                }
            }
        }
    }
}

fn host_of(kind: Kind, bytes: &[u8]) -> Option<&[u8]> {
    match kind {
        Kind::Url => url_parts(bytes).map(|u| u.host),
        Kind::Prefix => prefix_host(bytes),
        Kind::All | Kind::Host | Kind::Tag => None,
    }
}
