//! The purges of one store: the generation counter and the rules, asked at every look-up.

use super::super::store::Head;
use super::log::{self, Log, RESERVED_AHEAD, Said};
use super::rule::{Kind, Rule};
use super::rules::{Marks, Rules, at};
use super::{Filed, Gate};
use crate::base::clock::Clock;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// See the file's head. Shared by all levels of a store.
#[derive(Debug)]
pub struct Book {
    clock: Clock,
    /// Of the last purge. Raised only after its rules can be found.
    generation: AtomicU64,
    /// Rules up to this one may have been let go of: what was asked for before that is not stored any more.
    floor: AtomicU64,
    rules: Rules,
    /// Held by whoever changes rules: records that are not in the log yet.
    pending: Mutex<Vec<u8>>,
    /// Taken before `pending`, never after it.
    log: Option<Mutex<Log>>,
    reclaimed: AtomicU64,
}

/// What a check of one object has found, kept beside the object so that the next one is two atomic loads.
#[derive(Debug)]
pub struct Checked {
    generation: AtomicU64,
    /// Nanoseconds since 1970; [`NEVER`] when it was not purged softly.
    stale_since: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Clone for Checked {
    fn clone(&self) -> Self {
        let copy = |n: &AtomicU64| AtomicU64::new(n.load(Ordering::Relaxed));
        Checked { generation: copy(&self.generation), stale_since: copy(&self.stale_since) }
    }
}

impl Checked {
    /// Since when a purge has made it stale, as far as that has been found out.
    pub fn stale_since(&self) -> Option<SystemTime> {
        match self.gate() {
            Gate::Stale { since } => Some(since),
            _ => None,
        }
    }

    fn new(generation: u64, gate: Gate) -> Self {
        let since = if let Gate::Stale { since } = gate { nanos(since) } else { NEVER };
        Checked { generation: AtomicU64::new(generation), stale_since: AtomicU64::new(since) }
    }

    fn gate(&self) -> Gate {
        match self.stale_since.load(Ordering::Relaxed) {
            NEVER => Gate::Live,
            since => Gate::Stale { since: at(since) },
        }
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    u64::try_from(since_1970).unwrap_or(NEVER - 1).min(NEVER - 1)
}

/// A generation past all that were ever handed out, where nobody knows them: counters that start here and go up by
/// [`RESERVED_AHEAD`] with each start fall behind as long as there is less than one start a second.
fn by_the_clock(now: SystemTime) -> u64 {
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    u64::try_from(micros << 12).unwrap_or(u64::MAX / 2)
}

impl Book {
    /// Purges that end with the process.
    pub fn new(clock: Clock) -> Self {
        Book {
            clock,
            generation: AtomicU64::new(1),
            floor: AtomicU64::new(0),
            rules: Rules::default(),
            pending: Mutex::default(),
            log: None,
            reclaimed: AtomicU64::new(0),
        }
    }

    /// Purges kept in a folder: rules and counter of before are there again. Without a log that can be relied on,
    /// everything stored before is void. Blocks on the disk.
    pub fn open(folder: Option<&Path>, clock: Clock) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Book::new(clock)) };
        Book::beside(folder, false, clock)
    }

    /// The same for a folder of which it is known whether anything is stored there (`empty`: nothing is). A log that
    /// cannot be written, on a full disk, is tried again by [`Book::tidy`]; until then purges end with the process, and
    /// what is stored ends with them.
    pub fn beside(folder: &Path, empty: bool, clock: Clock) -> io::Result<Self> {
        let mut book = Book::new(clock);
        let unknown = by_the_clock(book.clock.now());
        let start = match log::read(folder)? {
            Said::Rules { reserved, entries } => {
                entries.iter().for_each(|(kind, name, marks)| book.rules.merge(*kind, name, marks));
                reserved
            }
            Said::Nothing if empty => unknown,
            Said::Nothing => book.all_void(unknown),
            Said::Damaged { reserved } => {
                tracing::error!(folder = %folder.display(), "the log of purges is damaged: what is stored is void");
                book.all_void(unknown.max(reserved))
            }
        };
        *book.generation.get_mut() = start;
        let records = book.records();
        let log = match Log::create(folder, start.saturating_add(RESERVED_AHEAD), &records) {
            Ok(log) => log,
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the log of purges cannot be written for now");
                // An old log must not speak for purges that it has not seen.
                log::remove(folder)?;
                Log::broken(folder)
            }
        };
        book.log = Some(Mutex::new(log));
        Ok(book)
    }

    fn all_void(&self, generation: u64) -> u64 {
        self.rules.merge(Kind::All, &[], &Marks { hard: generation, soft: Vec::new() });
        generation
    }

    /// Whether purges outlive the process.
    pub fn is_kept(&self) -> bool {
        self.log.is_some()
    }

    /// The generation of the last purge. Take it before an origin is asked, and file what it answers under it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What purges leave of an object with this key ([`super::super::key::Key::bytes`]).
    pub fn gate(&self, head: &Head, key: &[u8]) -> Gate {
        self.gate_of(&head.filed, key)
    }

    /// The same by what it is filed under alone.
    pub fn gate_of(&self, filed: &Filed, key: &[u8]) -> Gate {
        match self.generation() {
            now if filed.generation == now => Gate::Live,
            // A number that was never handed out.
            now if filed.generation > now => Gate::Void,
            _ => self.rules.judge(filed.generation, filed, key),
        }
    }

    /// [`Book::gate`] for an object that remembers its last check: two atomic loads when nothing was purged since.
    pub fn check(&self, head: &Head, key: &[u8], checked: &Checked) -> Gate {
        let now = self.generation();
        let before = checked.generation.load(Ordering::Acquire);
        if before >= now {
            return checked.gate();
        }
        match self.rules.judge(before.max(head.filed.generation), &head.filed, key) {
            Gate::Void => return Gate::Void,
            Gate::Stale { since } => drop(checked.stale_since.fetch_min(nanos(since), Ordering::Relaxed)),
            Gate::Live => {}
        }
        checked.generation.fetch_max(now, Ordering::Release);
        checked.gate()
    }

    /// Judges an object that is to be stored, or a header that is to replace one; `None` when it must not be.
    pub fn admit(&self, filed: &Filed, key: &[u8]) -> Option<Checked> {
        let now = self.generation();
        match self.gate_of(filed, key) {
            Gate::Void => None,
            _ if self.too_old(filed) => None,
            gate => Some(Checked::new(now, gate)),
        }
    }

    /// Judges an object that a level has held all along: how it stands, to be remembered with it; `None` when it is void.
    pub fn recheck(&self, filed: &Filed, key: &[u8]) -> Option<Checked> {
        let now = self.generation();
        match self.gate_of(filed, key) {
            Gate::Void => None,
            gate => Some(Checked::new(now, gate)),
        }
    }

    /// Whether a request may take what another one is fetching: only if nothing that concerns it was purged since.
    pub fn may_follow(&self, filed: &Filed, key: &[u8]) -> bool {
        self.gate_of(filed, key) == Gate::Live && !self.too_old(filed)
    }

    /// Whether rules that concern it may have been let go of. Asked after the rules themselves: the floor rises first.
    fn too_old(&self, filed: &Filed) -> bool {
        filed.generation < self.floor.load(Ordering::Acquire)
    }

    /// Sets rules; they are in force when this returns. Gives their generation. They are handed to the operating system
    /// but not forced to the disk; see [`Book::sync`].
    pub fn set(&self, rules: &[Rule]) -> u64 {
        let since = nanos(self.clock.now());
        let mut pending = self.pending();
        let generation = self.generation.load(Ordering::Relaxed).saturating_add(1);
        for rule in rules {
            self.rules.add(rule, generation, since);
            if self.log.is_some() {
                let mut marks = Marks::default();
                marks.add(rule.soft, generation, since);
                log::encode(&mut pending, rule.kind, &rule.bytes, &marks);
            }
        }
        self.generation.store(generation, Ordering::Release);
        drop(pending);
        self.hand_over();
        generation
    }

    /// Forces every purge so far to the disk. Blocks. On an error they are in force, but maybe not after a restart.
    pub fn sync(&self) -> io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let done = if log.is_broken() {
            self.rewrite(&mut log)
        } else {
            let records = std::mem::take(&mut *self.pending());
            log.append(&records, true)
        };
        drop(log);
        // Purges that found the log taken have left their records.
        self.hand_over();
        done
    }

    /// Writes pending records unless somebody else is at it, who will then find them.
    fn hand_over(&self) {
        let Some(log) = &self.log else { return };
        while !self.pending().is_empty() {
            let mut log = match log.try_lock() {
                Ok(log) => log,
                Err(TryLockError::Poisoned(p)) => p.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let records = std::mem::take(&mut *self.pending());
            // Once broken, it is written anew from the rules, these among them.
            if !log.is_broken()
                && let Err(error) = log.append(&records, false)
            {
                tracing::error!(%error, "a purge could not be written to the log; it is in force until a restart");
            }
        }
    }

    /// Housekeeping: writes the log anew when it has grown or broken. Blocks.
    pub fn tidy(&self) -> io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let done = if log.wants_rewrite(self.generation()) { self.rewrite(&mut log) } else { Ok(()) };
        drop(log);
        self.hand_over();
        done
    }

    fn rewrite(&self, log: &mut Log) -> io::Result<()> {
        let records = {
            let mut pending = self.pending();
            pending.clear();
            self.records()
        };
        log.rewrite(self.generation().saturating_add(RESERVED_AHEAD), &records)
    }

    /// Every rule as records. While rules change, `pending` is to be held.
    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.rules.each(|kind, name, marks| log::encode(&mut out, kind, name, marks));
        out
    }

    fn pending(&self) -> MutexGuard<'_, Vec<u8>> {
        // Nothing panics under this lock, and its data would still be whole if it did.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of rules of generation `floor` and before. No stored object may need them: each has been checked since
    /// then, and is gone or remembers the outcome. What was asked for before is not stored from now on.
    pub(super) fn forget(&self, floor: u64) {
        let _turn = self.pending();
        self.floor.fetch_max(floor, Ordering::AcqRel);
        self.rules.forget(floor);
    }

    /// Whether so many rules are held that more of them should be set only where something is stored: clients who make
    /// rules by unsafe requests could otherwise fill the book, which would then have to purge more than they asked for.
    pub fn is_crowded(&self) -> bool {
        self.rules.is_crowded()
    }

    /// How many rules are held.
    pub fn rules(&self) -> u64 {
        self.rules.len() as u64
    }

    /// Objects thrown out because a purge had made them void.
    pub fn reclaimed(&self) -> u64 {
        self.reclaimed.load(Ordering::Relaxed)
    }

    /// Counts objects that a level has thrown out as void.
    pub fn count_reclaimed(&self, objects: u64) {
        self.reclaimed.fetch_add(objects, Ordering::Relaxed);
    }

    /// Time since the book was opened.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}
