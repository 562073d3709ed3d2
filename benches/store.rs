//! The cache's disk level at size: bytes of memory for each object on disk, how long a restart takes to the first hit,
//! throughput, and, with `--churn SECONDS`, whether all bounds hold while everything is replaced again and again.
//!
//! `cargo bench --bench store -- [OBJECTS] [--churn SECONDS] [--dir FOLDER]`; 1,000,000 objects of 1 to 100 KiB
//! (log-uniform, 21 KiB on average) need about 24 GB of disk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs
)]

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use sluicegate::base::clock::Clock;
use sluicegate::cache::key::{Key, KeyRules, Place};
use sluicegate::cache::store::disk::{DiskOptions, DiskStats, DiskStore};
use sluicegate::cache::store::memory::Limits;
use sluicegate::cache::store::tiered::TieredStore;
use sluicegate::cache::store::{Head, Reader, Slot, Store, Writer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const MEMORY_BYTES: u64 = 64 << 20;

struct Args {
    objects: u64,
    churn: Option<Duration>,
    dir: Option<PathBuf>,
}

fn args() -> Args {
    let mut args = Args { objects: 1_000_000, churn: None, dir: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--churn" => args.churn = words.next().and_then(|s| s.parse().ok()).map(Duration::from_secs),
            "--dir" => args.dir = words.next().map(PathBuf::from),
            "--bench" => {}
            n => args.objects = n.parse().unwrap_or(args.objects),
        }
    }
    args
}

fn key(n: u64) -> Key {
    Key::of(
        &Place::of(false, "bench.test", format!("/object/{n}").as_bytes()),
        &KeyRules::default(),
        &HeaderMap::new(),
        &[],
    )
}

fn slot(key: &Key) -> Slot<'_> {
    Slot { hash: *key.hash(), variance: None, key: key.bytes() }
}

fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (n >> 32)
}

/// 1 to 100 KiB, log-uniform.
fn length(n: u64) -> usize {
    let share = (mix(n) >> 11) as f64 / (1u64 << 53) as f64;
    (1024.0 * 100f64.powf(share)) as usize
}

struct Bodies(Bytes);

impl Bodies {
    fn new() -> Self {
        Bodies((0..512u64 << 10).map(|i| mix(i) as u8).collect::<Vec<u8>>().into())
    }
    /// A part of one large body that tells objects apart.
    fn of(&self, n: u64) -> Bytes {
        let from = (mix(n + 7) % (256 << 10)) as usize;
        self.0.slice(from..from + length(n))
    }
}

fn head(length: usize) -> Head {
    let mut header = ResponseHeader::build_no_case(200, None).unwrap();
    header.append_header("content-type", "application/octet-stream").unwrap();
    header.append_header("etag", "\"v1\"").unwrap();
    header.append_header("content-length", length.to_string()).unwrap();
    let now = SystemTime::now();
    Head::from_meta(&CacheMeta::new(now + Duration::from_secs(86_400), now, 30, 30, header))
}

fn open(dir: &Path, size_bytes: u64) -> (TieredStore, Arc<DiskStore>) {
    let clock = Clock::system();
    let options = DiskOptions { folder: dir.to_owned(), size_bytes, always: true, clock: clock.clone() };
    let disk = Arc::new(DiskStore::open(&options).unwrap());
    let limits = Limits { capacity_bytes: MEMORY_BYTES, object_bytes_max: 64 << 20 };
    let store = TieredStore::new(limits, clock, Arc::clone(disk.book()));
    store.attach(Arc::clone(&disk));
    (store, disk)
}

async fn put(store: &TieredStore, n: u64, bodies: &Bodies) {
    let (key, body) = (key(n), bodies.of(n));
    let mut writer = store.begin(&slot(&key), head(body.len())).await.unwrap();
    writer.write(body).await.unwrap();
    writer.finish().await.unwrap();
}

/// Whether the object is there; what is there must be right.
async fn get(store: &TieredStore, n: u64, bodies: &Bodies) -> Option<usize> {
    let key = key(n);
    let mut found = store.find(&slot(&key)).await.unwrap()?;
    let mut got = Vec::new();
    while let Some(piece) = found.body.next().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert!(got == bodies.of(n), "object {n} is not what was stored");
    Some(got.len())
}

async fn fill(store: &TieredStore, disk: &DiskStore, objects: u64, bodies: &Bodies) {
    let started = Instant::now();
    let mut bytes = 0;
    for n in 0..objects {
        put(store, n, bodies).await;
        bytes += length(n) as u64;
        // A queue that is full drops objects; here every one is wanted.
        while n % 64 == 0 && disk.stats().queued_bytes > 4 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    disk.flush().await;
    let took = started.elapsed().as_secs_f64();
    println!(
        "written: {objects} objects, {} MB in {took:.1} s, {:.0} MB/s",
        bytes / 1_000_000,
        bytes as f64 / 1e6 / took
    );
}

fn tell(what: &str, s: &DiskStats) {
    let each = s.index_bytes as f64 / s.objects.max(1) as f64;
    println!(
        "{what}: {} objects on disk, {} MB in {} segments, index {:.1} bytes of memory per object, dropped {}, corrupt {}",
        s.objects,
        s.bytes / 1_000_000,
        s.segments,
        each,
        s.dropped,
        s.corrupt
    );
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn folder_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

/// Writes and reads for a while on a disk level that holds a quarter of the objects; every bound is looked at.
async fn churn(dir: &Path, objects: u64, lasting: Duration, bodies: &Bodies) {
    let size = (objects * 24_000 / 4).max(64 << 20);
    let (store, disk) = open(dir, size);
    let started = Instant::now();
    let (mut n, mut hits, mut asked, mut most) = (0, 0u64, 0u64, 0);
    while started.elapsed() < lasting {
        for _ in 0..1_000 {
            n += 1;
            put(&store, mix(n) % objects, bodies).await;
            asked += 1;
            hits += u64::from(get(&store, mix(n * 3) % objects, bodies).await.is_some());
        }
        let (files, memory, stats) = (folder_bytes(dir), store.stats().bytes, disk.stats());
        most = most.max(files);
        assert!(files <= size, "{files} bytes of files, bound {size}");
        assert!(memory <= MEMORY_BYTES, "{memory} bytes of memory, bound {MEMORY_BYTES}");
        assert!(stats.bytes <= size && stats.corrupt == 0, "{stats:?}");
    }
    println!(
        "churn: {n} written, {asked} asked for, {hits} hits; at most {most} bytes of files of {size}; all bounds held"
    );
    tell("churn", &disk.stats());
}

async fn run(args: Args) {
    let own = tempfile::tempdir().unwrap();
    let dir = args.dir.clone().unwrap_or_else(|| own.path().to_owned());
    let bodies = Bodies::new();
    if let Some(lasting) = args.churn {
        return churn(&dir, args.objects, lasting, &bodies).await;
    }
    let size = args.objects * 26_000 + (1 << 30);
    {
        let (store, disk) = open(&dir, size);
        fill(&store, &disk, args.objects, &bodies).await;
        tell("filled", &disk.stats());
        assert!(disk.close(Duration::from_secs(60)).await);
    }
    let before = resident_bytes();
    let started = Instant::now();
    let (store, disk) = open(&dir, size);
    let opened = started.elapsed();
    let hit = get(&store, args.objects / 2, &bodies).await;
    println!(
        "restart: index after {:.3} s, first hit after {:.3} s ({hit:?} bytes)",
        opened.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    tell("restart", &disk.stats());
    println!(
        "restart: resident memory grew by {:.1} bytes per object",
        resident_bytes().saturating_sub(before) as f64 / args.objects as f64
    );
    let (started, mut bytes, mut hits) = (Instant::now(), 0, 0u64);
    let reads = args.objects.min(200_000);
    for n in 0..reads {
        if let Some(got) = get(&store, mix(n + 99) % args.objects, &bodies).await {
            bytes += got;
            hits += 1;
        }
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "reads: {hits} of {reads} hits on one task, {:.0} a second, {:.0} MB/s",
        hits as f64 / took,
        bytes as f64 / 1e6 / took
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(args()));
}
