//! Small numbers that outlive the process: named cells in memory, written behind by a thread of their own to a journal
//! with checksums, which a crash leaves readable. Nobody waits for the disk: what was set reaches the file within
//! [`WRITTEN_WITHIN`], and a killed process loses no more than that.

mod file;
pub mod frames;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use writer::{Message, Writer};

/// How long a value may take from memory to the file.
pub const WRITTEN_WITHIN: Duration = Duration::from_millis(50);
/// Most cells of one store.
pub const CELLS_MAX: usize = 1 << 18;
/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Locks are per shard and held for a map operation only.
const SHARDS: usize = 64;

/// What a cell holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// When what is counted began, in seconds since 1970.
    pub since: u64,
    /// How much has been counted since then.
    pub amount: u64,
}

/// One named value. Setting it never waits for the disk.
pub struct Cell {
    name: Box<str>,
    value: Mutex<Value>,
    /// It stands in the writer's queue.
    queued: AtomicBool,
    /// None for a store in memory.
    writer: Option<Sender<Message>>,
}

/// Where a store keeps its file.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder; it is made if it is not there.
    pub folder: PathBuf,
    /// Each batch is forced to the disk (`fdatasync`): not even a power cut loses what was written.
    pub sync: bool,
}

/// What the store and its writer share.
struct Table {
    shards: Vec<Mutex<HashMap<Box<str>, Arc<Cell>>>>,
    hasher: RandomState,
    len: AtomicUsize,
    health: Health,
}

/// How writing goes.
#[derive(Default)]
struct Health {
    sync: AtomicBool,
    failing: AtomicBool,
    bytes: AtomicU64,
}

/// A store of cells.
pub struct Kv {
    table: Arc<Table>,
    writer: Option<Sender<Message>>,
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cell {
    fn new(name: &str, value: Value, writer: Option<Sender<Message>>) -> Arc<Cell> {
        Arc::new(Cell { name: name.into(), value: Mutex::new(value), queued: AtomicBool::new(false), writer })
    }

    /// The value now.
    pub fn get(&self) -> Value {
        *locked(&self.value)
    }

    /// Sets the value and has it written soon.
    pub fn set(self: &Arc<Self>, value: Value) {
        *locked(&self.value) = value;
        let Some(writer) = &self.writer else { return };
        // A cell stands in the queue once, however often it changes: the queue is no longer than there are cells.
        if !self.queued.swap(true, Ordering::AcqRel) {
            // A writer that is gone has been closed: the process is leaving.
            let _ = writer.send(Message::Changed(Arc::clone(self)));
        }
    }
}

impl Table {
    fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Table { shards, hasher: RandomState::new(), len: AtomicUsize::new(0), health: Health::default() }
    }

    fn shard(&self, name: &str) -> Option<MutexGuard<'_, HashMap<Box<str>, Arc<Cell>>>> {
        let at = usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).ok()?;
        self.shards.get(at).map(locked)
    }

    fn insert(&self, cell: Arc<Cell>) {
        if let Some(mut shard) = self.shard(&cell.name)
            && shard.insert(cell.name.clone(), cell).is_none()
        {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn each(&self, mut f: impl FnMut(&str, Value)) {
        for shard in &self.shards {
            locked(shard).values().for_each(|c| f(&c.name, c.get()));
        }
    }
}

impl Kv {
    /// A store that forgets with the process.
    pub fn memory() -> Self {
        Kv { table: Arc::new(Table::new()), writer: None }
    }

    /// Opens the store of a folder and reads what it holds. Fails when another process has it open, or when the file is
    /// not one of ours. Blocks.
    pub fn open(options: &Options) -> io::Result<Self> {
        let (file, found) = file::Journal::open(&options.folder)?;
        let table = Arc::new(Table::new());
        table.health.sync.store(options.sync, Ordering::Relaxed);
        let (out, queue) = channel();
        for (name, value) in found {
            table.insert(Cell::new(&name, value, Some(out.clone())));
        }
        let writer = Writer::new(file, Arc::downgrade(&table));
        std::thread::Builder::new().name("kv".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(Kv { table, writer: Some(out) })
    }

    /// The cell of this name, made if there is none; `None` when the name is too long or there are too many cells.
    pub fn cell(&self, name: &str) -> Option<Arc<Cell>> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut shard = self.table.shard(name)?;
        if let Some(cell) = shard.get(name) {
            return Some(Arc::clone(cell));
        }
        if self.table.len.load(Ordering::Relaxed) >= CELLS_MAX {
            return None;
        }
        let cell = Cell::new(name, Value::default(), self.writer.clone());
        shard.insert(name.into(), Arc::clone(&cell));
        self.table.len.fetch_add(1, Ordering::Relaxed);
        Some(cell)
    }

    /// Forgets the cells that nobody holds and that `idle` gives up. They leave the file when it is next written anew.
    pub fn forget(&self, idle: impl Fn(&str, Value) -> bool) {
        for shard in &self.table.shards {
            locked(shard).retain(|name, cell| {
                let keep = Arc::strong_count(cell) > 1 || !idle(name, cell.get());
                if !keep {
                    self.table.len.fetch_sub(1, Ordering::Relaxed);
                }
                keep
            });
        }
    }

    /// Looks at every cell.
    pub fn each(&self, f: impl FnMut(&str, Value)) {
        self.table.each(f);
    }

    /// Whether batches are forced to the disk from now on.
    pub fn set_sync(&self, sync: bool) {
        self.table.health.sync.store(sync, Ordering::Relaxed);
    }

    /// Whether the last batch could not be written. What is not written stays in memory and is tried again.
    pub fn is_failing(&self) -> bool {
        self.table.health.failing.load(Ordering::Relaxed)
    }

    /// The size of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.table.health.bytes.load(Ordering::Relaxed)
    }

    /// Waits until everything set so far is in the file; false when it could not be written in time. Blocks.
    pub fn flush(&self, at_most: Duration) -> bool {
        self.told(Message::Flush, at_most)
    }

    /// The same, and lets go of the file: what is set later is not kept. Blocks.
    pub fn close(&self, at_most: Duration) -> bool {
        self.told(Message::Close, at_most)
    }

    fn told(&self, message: impl FnOnce(std::sync::mpsc::SyncSender<bool>) -> Message, at_most: Duration) -> bool {
        let Some(writer) = &self.writer else { return true };
        let (done, wait) = sync_channel(1);
        writer.send(message(done)).is_ok() && wait.recv_timeout(at_most).unwrap_or(false)
    }
}
