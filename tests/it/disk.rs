//! The disk level of the HTTP cache, in a gateway that is a process of its own: killed, with damaged files, on a full
//! disk. Whatever happens, an answer is the origin's, byte for byte.

use crate::harness::client::{Client, ask as ask_post, get};
use crate::harness::edge::Setup;
use crate::harness::origin::{Origin, reply};
use crate::harness::process::Process;
use crate::harness::{soon, wait_until};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const YAML: &str = "
upstreams: { app: { servers: [\"$ORIGIN\"] } }
caches: { main: { memory: { size: 1MiB }, disk: { path: \"$DIR/cache\", size: $SIZE, admission: always }, max_object_size: 2MiB } }
routes: [ { upstream: app, cache: true } ]
";
/// Objects asked for.
const OBJECTS: usize = 60;

/// Bytes of object `n`: a mark that names it in every line, and a length of its own.
fn body(n: usize) -> Vec<u8> {
    let length = [300, 9_000, 70_000, 200_000, 400_000, 1_300_000][n % 6] + n;
    format!("object {n:04} of the drill; ").into_bytes().into_iter().cycle().take(length).collect()
}

async fn origin() -> Origin {
    Origin::start(|seen| {
        let n = seen.target.trim_start_matches('/').parse().unwrap_or(0);
        reply(200, &[("cache-control", "max-age=3600"), ("etag", "\"1\"")], body(n))
    })
    .await
}

fn setup(origin: &Origin, size: &str) -> Setup {
    Setup::new(YAML).put("ORIGIN", origin.address).put("SIZE", size)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir.join("cache/main")).into_iter().flatten().flatten().map(|e| e.path());
    let mut all: Vec<_> = all.filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    all.sort();
    all
}

fn folder_bytes(dir: &Path) -> u64 {
    let all = std::fs::read_dir(dir.join("cache/main")).into_iter().flatten().flatten();
    all.map(|e| e.metadata().map_or(0, |m| m.len())).sum()
}

/// Asks for everything and says how many came from the cache. Every whole answer is the origin's; one that is not whole
/// must be seen to be so.
async fn check(web: SocketAddr) -> usize {
    let mut hits = 0;
    for n in 0..OBJECTS {
        let Some(answer) = ask(web, n).await else { continue };
        if answer {
            hits += 1;
        }
    }
    hits
}

/// One object: `Some(hit)`, or `None` where the connection ended before a whole answer.
async fn ask(web: SocketAddr, n: usize) -> Option<bool> {
    let socket = tokio::net::TcpStream::connect(web).await.ok()?;
    let mut client = Client::over(socket);
    if !client.try_send(format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")).await {
        return None;
    }
    let answer = client.try_response(false).await?;
    if !answer.complete {
        return None;
    }
    assert_eq!(answer.status, 200, "{n}");
    assert!(answer.body == body(n), "object {n} is not the origin's");
    Some(answer.source() == "http_cache")
}

/// Requests from several clients at once until the gateway is gone; counts whole answers.
fn load(web: SocketAddr, answers: &Arc<AtomicUsize>) -> Vec<tokio::task::JoinHandle<()>> {
    let client = |c: usize| {
        let answers = Arc::clone(answers);
        async move {
            for i in 0.. {
                match ask(web, (i * 7 + c * 13) % OBJECTS).await {
                    Some(_) => drop(answers.fetch_add(1, Ordering::SeqCst)),
                    None => return,
                }
            }
        }
    };
    (0..4).map(|c| tokio::spawn(client(c))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_write_load_never_mix_or_cut_an_object() {
    let origin = origin().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&origin, "64MiB").write_into(dir.path());
    let mut hits = 0;
    for round in 0..20 {
        let gateway = Process::start(&config).await;
        if round > 0 {
            hits += check(gateway.web).await;
        }
        // Everything is written anew while the process dies: each round at another moment.
        let answers = Arc::new(AtomicUsize::new(0));
        let clients = load(gateway.web, &answers);
        wait_until("some answers", async || answers.load(Ordering::SeqCst) > 5 + round * 3).await;
        gateway.end("KILL").await;
        for client in clients {
            soon("a client to notice", client).await.unwrap();
        }
        if round % 2 == 1 {
            // A new start from little, so that there is always something to write.
            for path in segments(dir.path()).iter().step_by(2) {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    assert!(hits > OBJECTS, "what was written before a kill is served after it: {hits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_outlive_an_ordered_restart() {
    let origin = origin().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&origin, "64MiB").write_into(dir.path());
    let gateway = Process::start(&config).await;
    assert_eq!(check(gateway.web).await, 0);
    gateway.end("TERM").await;
    let asked = origin.hits();
    let gateway = Process::start(&config).await;
    assert_eq!(check(gateway.web).await, OBJECTS);
    assert_eq!(origin.hits(), asked);
    // A part of a large object, and a condition, are answered from disk.
    let mut client = Client::connect(gateway.web).await;
    let part = client.ask("GET", "/5", &[("Range", "bytes=700000-700099")], b"").await;
    assert_eq!((part.status, part.body.as_slice()), (206, &body(5)[700_000..700_100]));
    let same = client.ask("GET", "/5", &[("If-None-Match", "\"1\"")], b"").await;
    assert_eq!(same.status, 304);
    assert_eq!(origin.hits(), asked);
    gateway.end("TERM").await;
}

/// Truncates, zeroes or flips bits, each segment in another way.
fn damage(dir: &Path, round: usize) {
    for (i, path) in segments(dir).into_iter().enumerate() {
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let at = |part: u64| length * part / 7;
        match (i + round) % 4 {
            0 => file.set_len(at(4)).unwrap(),
            1 => file.write_all_at(&vec![0; at(2) as usize], at(3)).unwrap(),
            2 => {
                for part in 1..7 {
                    let mut byte = [0];
                    if file.read_exact_at(&mut byte, at(part)).is_ok() {
                        file.write_all_at(&[byte[0] ^ (1 << part)], at(part)).unwrap();
                    }
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_give_misses_while_it_runs_and_after_a_restart() {
    let origin = origin().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&origin, "64MiB").write_into(dir.path());
    let mut gateway = Process::start(&config).await;
    let mut hits = 0;
    for round in 0..4 {
        check(gateway.web).await;
        if round % 2 == 0 {
            // Between two runs.
            gateway.end(if round == 0 { "TERM" } else { "KILL" }).await;
            damage(dir.path(), round);
            gateway = Process::start(&config).await;
        } else {
            damage(dir.path(), round);
        }
        hits += check(gateway.web).await;
        // A damaged object is fetched and stored again.
        check(gateway.web).await;
        assert!(check(gateway.web).await > OBJECTS / 2, "round {round}");
    }
    assert!(hits > 0 && hits < 4 * OBJECTS, "some were damaged and some were not: {hits}");
    gateway.end("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_level_of_16_mib_fills_up_and_stays_within_its_bound() {
    let origin = Origin::start(|seen| {
        let n = seen.target.trim_start_matches('/').parse().unwrap_or(0);
        reply(200, &[("cache-control", "max-age=3600")], body(n))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&origin, "16MiB").write_into(dir.path());
    for kill in ["KILL", "TERM", "KILL"] {
        let gateway = Process::start(&config).await;
        for n in 0..200 {
            assert!(ask(gateway.web, n).await.is_some());
            assert!(folder_bytes(dir.path()) <= 16 << 20, "{} bytes", folder_bytes(dir.path()));
        }
        assert!(folder_bytes(dir.path()) > 8 << 20, "it is used: {} bytes", folder_bytes(dir.path()));
        check(gateway.web).await;
        gateway.end(kill).await;
    }
}

/// A file system of 8 MiB, where the test may mount one; unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(at)
            .stderr(std::process::Stdio::null())
            .status();
        done.is_ok_and(|s| s.success()).then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_is_never_a_clients_trouble() {
    let origin = origin().await;
    let dir = tempfile::tempdir().unwrap();
    let config = setup(&origin, "64MiB").write_into(dir.path());
    // Where nothing may be mounted the same is tested with an injected fault, beside the store.
    let Some(disk) = SmallDisk::mount(&dir.path().join("cache")) else { return };
    std::fs::write(disk.0.join("others"), vec![0; 3 << 20]).unwrap();
    for kill in ["KILL", "TERM"] {
        let gateway = Process::start(&config).await;
        for _ in 0..3 {
            for n in 0..OBJECTS {
                assert!(ask(gateway.web, n).await.is_some(), "{n}");
            }
        }
        assert_eq!(get(gateway.web, "/1").await.status, 200);
        gateway.end(kill).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_a_fault_at_the_start_and_a_reload_keeps_it_open() {
    let origin = origin().await;
    let edge = setup(&origin, "64MiB").start().await;
    assert_eq!(edge.get("/1").await.source(), "origin");
    let other = setup(&origin, "64MiB").put("DIR", edge.path("").display());
    let Err(fault) = other.try_start().await else { panic!("the folder is in use") };
    let fault = format!("{fault:#}");
    assert!(fault.contains("caches.main.disk.path") && fault.contains("in use"), "{fault}");
    // Another memory size makes a new store over the same disk.
    wait_until("the object on disk", async || segments(edge.path("").as_path()).len() == 1).await;
    edge.edit("sluicegate.yaml", "memory: { size: 1MiB }", "memory: { size: 2MiB }");
    assert_eq!(ask_post(edge.admin(), "POST", "/reload", &[], b"{}").await.status, 200);
    assert_eq!(edge.get("/1").await.source(), "http_cache");
    let status = edge.status().await;
    assert!(status["http_caches"]["main"]["disk"]["hit"].as_u64() >= Some(1), "{status}");
    assert!(edge.metric("sluicegate_cache_disk_objects", &["cache=\"main\""]).await >= 1.0);
    assert_eq!(origin.hits(), 1);
}
