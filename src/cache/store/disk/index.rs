//! Where each object on disk is: one small entry in memory for each, in sharded tables whose locks are held for pointer
//! work only.
//!
//! A varying object is filed under its own variance whatever slot it was stored in, so that there is one entry for each
//! variant; the primary slot then holds an alias that only names the variant.

use super::super::super::key::group_of;
use super::super::Target;
use super::format::Listed;
use hashbrown::HashTable;
use pingora_cache::key::HashBinary;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A slot, as far as the index tells slots apart; what is read from disk is compared with the full key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId {
    /// First half of the key's hash: the URL.
    pub group: u64,
    /// Second half.
    pub rest: u64,
    /// The variance, folded; 0 is none.
    pub variant: u32,
}

impl SlotId {
    /// Of a key's hash and a variance.
    pub fn of(hash: &HashBinary, variance: Option<HashBinary>) -> Self {
        let rest = hash.iter().rev().take(8).fold(0, |n: u64, b| n << 8 | u64::from(*b));
        let fold = |v: HashBinary| v.iter().take(4).fold(0, |n: u32, b| n << 8 | u32::from(*b)) | 1;
        SlotId { group: group_of(hash), rest, variant: variance.map_or(0, fold) }
    }

    fn primary(self) -> Self {
        SlotId { variant: 0, ..self }
    }
}

/// One object, or the alias of one. 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    group: u64,
    rest: u64,
    /// Order of writing.
    pub seq: u64,
    variant: u32,
    /// The segment of the record.
    pub segment: u32,
    /// Where the record begins, in units of 8 bytes; of an alias: which variant it names.
    place: u32,
    /// What to read at once, in bytes.
    pub bytes: u32,
    /// The segment that has the body.
    pub body_segment: u32,
    /// When a large body was last verified, in units of 8 s since the store was opened; 0 is never.
    pub verified: u16,
    /// How often it was asked for, up to [`USES_MAX`].
    pub uses: u8,
    alias: bool,
}

/// More uses than this are not counted.
pub const USES_MAX: u8 = 3;
/// Variants and keys of one URL; the oldest makes room for more, as in memory.
const GROUP_MAX: usize = 256;

impl Entry {
    /// For a record in this segment.
    pub fn new(segment: u32, l: &Listed) -> Option<Self> {
        let place = u32::try_from(l.at / 8).ok()?;
        Some(Entry {
            group: l.group,
            rest: l.rest,
            seq: l.seq,
            variant: l.variant,
            segment,
            place,
            bytes: l.bytes,
            body_segment: l.body_segment,
            verified: 0,
            uses: 0,
            alias: false,
        })
    }

    fn alias_of(entry: &Entry) -> Self {
        Entry { variant: 0, place: entry.variant, alias: true, ..*entry }
    }

    /// Where the record begins in its segment, in bytes.
    pub fn at(&self) -> u64 {
        u64::from(self.place) * 8
    }

    /// The slot it is filed under.
    pub fn id(&self) -> SlotId {
        SlotId { group: self.group, rest: self.rest, variant: self.variant }
    }

    fn is(&self, id: &SlotId) -> bool {
        self.group == id.group && self.rest == id.rest && self.variant == id.variant
    }

    /// Whether it stands on this segment.
    pub fn needs(&self, segment: u32) -> bool {
        self.segment == segment || self.body_segment == segment
    }
}

type Table = HashTable<Entry>;

/// See the file's head.
#[derive(Debug)]
pub struct Index {
    shards: Vec<Mutex<Table>>,
    spare: Mutex<Table>,
    objects: AtomicU64,
}

const SHARDS: usize = 64;

impl Index {
    /// Nothing in it.
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Index { shards, spare: Mutex::default(), objects: AtomicU64::new(0) }
    }

    fn shard(&self, group: u64) -> MutexGuard<'_, Table> {
        // The low bits choose the bucket and the highest the tag, so these are free.
        let at = usize::try_from((group >> 32) % SHARDS as u64).unwrap_or(0);
        self.shards.get(at).unwrap_or(&self.spare).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects, aliases not counted.
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// The object in a slot, counting the access. An alias is followed.
    pub fn find(&self, id: &SlotId) -> Option<Entry> {
        let mut table = self.shard(id.group);
        let id = resolve(&table, id)?;
        let entry = table.find_mut(id.group, |e| e.is(&id))?;
        entry.uses = entry.uses.saturating_add(1).min(USES_MAX);
        Some(*entry)
    }

    /// The same without counting.
    pub fn peek(&self, id: &SlotId) -> Option<Entry> {
        let table = self.shard(id.group);
        let id = resolve(&table, id)?;
        table.find(id.group, |e| e.is(&id)).copied()
    }

    /// The object filed under exactly this, no alias followed.
    pub fn exact(&self, id: &SlotId) -> Option<Entry> {
        self.shard(id.group).find(id.group, |e| e.is(id) && !e.alias).copied()
    }

    /// Takes one use back.
    pub fn cool(&self, entry: &Entry) {
        let mut table = self.shard(entry.group);
        if let Some(e) = table.find_mut(entry.group, |e| e.is(&entry.id()) && e.seq == entry.seq) {
            e.uses = e.uses.saturating_sub(1);
        }
    }

    /// Whether the primary slot stands for this variant, so that a rewritten record says so again.
    pub fn is_primary(&self, id: &SlotId) -> bool {
        let table = self.shard(id.group);
        id.variant == 0 || resolve(&table, &id.primary()).is_some_and(|named| named == *id)
    }

    /// Files an entry; gives those it takes the place of, or the new one back where there is a later one already.
    pub fn insert(&self, entry: Entry, primary: bool) -> Vec<Entry> {
        let mut out = Vec::new();
        let mut table = self.shard(entry.group);
        let added = self.put(&mut table, entry, &mut out);
        if added && primary && entry.variant != 0 {
            self.put(&mut table, Entry::alias_of(&entry), &mut out);
        }
        out
    }

    fn put(&self, table: &mut Table, entry: Entry, out: &mut Vec<Entry>) -> bool {
        if let Some(old) = table.find_mut(entry.group, |e| e.is(&entry.id())) {
            if old.seq > entry.seq {
                out.extend((!entry.alias).then_some(entry));
                return false;
            }
            let gone = std::mem::replace(old, entry);
            out.extend((!gone.alias).then_some(gone));
            self.count(&gone, &entry);
            return true;
        }
        if table.iter_hash(entry.group).filter(|e| e.group == entry.group).count() >= GROUP_MAX {
            let oldest = table.iter_hash(entry.group).filter(|e| e.group == entry.group).min_by_key(|e| e.seq).copied();
            if let Some(gone) = oldest.and_then(|o| self.take(table, &o.id(), o.seq)) {
                out.extend((!gone.alias).then_some(gone));
            }
        }
        self.objects.fetch_add(u64::from(!entry.alias), Ordering::Relaxed);
        table.insert_unique(entry.group, entry, |e| e.group);
        true
    }

    fn count(&self, gone: &Entry, new: &Entry) {
        self.objects.fetch_add(u64::from(!new.alias), Ordering::Relaxed);
        self.objects.fetch_sub(u64::from(!gone.alias), Ordering::Relaxed);
    }

    fn take(&self, table: &mut Table, id: &SlotId, seq: u64) -> Option<Entry> {
        let found = table.find_entry(id.group, |e| e.is(id) && e.seq == seq).ok()?;
        let (gone, _) = found.remove();
        self.objects.fetch_sub(u64::from(!gone.alias), Ordering::Relaxed);
        if !gone.alias && gone.variant != 0 {
            // An alias that names it names nothing any more.
            let names = |e: &Entry| e.is(&id.primary()) && e.alias && e.place == gone.variant;
            if let Ok(alias) = table.find_entry(id.group, names) {
                alias.remove();
            }
        }
        Some(gone)
    }

    /// Takes an entry out, if it is still this one.
    pub fn remove(&self, entry: &Entry) -> bool {
        self.take(&mut self.shard(entry.group), &entry.id(), entry.seq).is_some()
    }

    /// Takes out whatever a slot has.
    pub fn remove_slot(&self, id: &SlotId) -> Option<Entry> {
        let mut table = self.shard(id.group);
        let id = resolve(&table, id)?;
        let seq = table.find(id.group, |e| e.is(&id))?.seq;
        self.take(&mut table, &id, seq)
    }

    /// Puts an entry that moved in the place of the old one, keeping its count of uses; `false` when that is gone.
    pub fn replace(&self, old: &Entry, new: Entry) -> bool {
        let mut table = self.shard(old.group);
        let Some(at) = table.find_mut(old.group, |e| e.is(&old.id()) && e.seq == old.seq) else { return false };
        *at = Entry { uses: at.uses, ..new };
        if let Some(alias) =
            table.find_mut(old.group, |e| e.is(&old.id().primary()) && e.alias && e.place == old.variant)
        {
            alias.seq = new.seq;
        }
        true
    }

    /// Notes that a body was verified.
    pub fn verified(&self, entry: &Entry, at: u16) {
        let mut table = self.shard(entry.group);
        if let Some(e) = table.find_mut(entry.group, |e| e.is(&entry.id()) && e.seq == entry.seq) {
            e.verified = at;
        }
    }

    /// What a purge concerns. Of a URL, the whole group is taken: that another URL has the same 64 bits costs a miss.
    pub fn targets(&self, target: &Target<'_>) -> Vec<Entry> {
        let rest = match target {
            Target::Url(..) => None,
            Target::Key(hash) => Some(SlotId::of(hash, None).rest),
        };
        let group = target.group();
        let table = self.shard(group);
        let mine = table.iter_hash(group).filter(|e| e.group == group && !e.alias);
        mine.filter(|e| rest.is_none_or(|r| e.rest == r)).copied().collect()
    }

    /// Takes out all that stands on a segment, at the price of looking at every entry.
    pub fn sweep(&self, segment: u32) -> u64 {
        let before = self.objects();
        for shard in &self.shards {
            let mut table = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let gone: Vec<Entry> = table.iter().filter(|e| !e.alias && e.needs(segment)).copied().collect();
            for e in &gone {
                self.take(&mut table, &e.id(), e.seq);
            }
        }
        before.saturating_sub(self.objects())
    }

    /// The objects of one part; `None` past the last.
    pub fn part(&self, part: usize) -> Option<Vec<Entry>> {
        let table = self.shards.get(part)?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(table.iter().filter(|e| !e.alias).copied().collect())
    }

    /// Takes everything out.
    pub fn clear(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Table::new();
        }
        self.objects.store(0, Ordering::Relaxed);
    }

    /// Memory that the tables take, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let tables = self.shards.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).allocation_size());
        tables.sum::<usize>() as u64
    }
}

/// Follows the alias in a slot, if that is what it has.
fn resolve(table: &Table, id: &SlotId) -> Option<SlotId> {
    let entry = table.find(id.group, |e| e.is(id))?;
    Some(if entry.alias { SlotId { variant: entry.place, ..*id } } else { *id })
}
