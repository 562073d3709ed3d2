//! Watches the files of a configuration and reloads when one of them has changed. Events say only that something
//! happened in a folder; what changed is told by looking at our own files, so that links, replaced folders and lost
//! events make no difference, and files that are not ours neither start nor delay a reload.

use super::reload::Reloader;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Editors write a file in several steps: changes this close together are one.
const QUIET: Duration = Duration::from_millis(100);
/// Changes that do not end are not waited for any longer.
const GATHER_MAX: Duration = Duration::from_secs(1);
/// Between two looks, however many events there are.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two looks without any event: not every file system tells.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Starts watching; ends with the reloader.
pub fn start(reloader: &Arc<Reloader>) -> anyhow::Result<()> {
    // One place is enough: an event says no more than "look".
    let (wake, woken) = sync_channel::<()>(1);
    reloader.wake_with(wake.clone());
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|e| e.kind.is_access()) {
            let _ = wake.try_send(());
        }
    })?;
    let mut folders = Folders { watcher, watched: BTreeMap::new() };
    folders.follow(reloader);
    let weak = Arc::downgrade(reloader);
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || run(&weak, &woken, folders))?;
    Ok(())
}

fn run(reloader: &Weak<Reloader>, woken: &Receiver<()>, mut folders: Folders) {
    loop {
        if woken.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let Some(reloader) = reloader.upgrade() else { return };
        folders.follow(&reloader);
        if reloader.changed() {
            settle(&reloader);
            // The fault, if any, is in the log and in the status already.
            let _ = reloader.reload("file changed");
            folders.follow(&reloader);
        }
        drop(reloader);
        std::thread::sleep(PAUSE);
    }
}

/// Waits until the files rest.
fn settle(reloader: &Reloader) {
    let started = Instant::now();
    let mut before = reloader.look();
    while started.elapsed() < GATHER_MAX {
        std::thread::sleep(QUIET);
        let now = reloader.look();
        if now == before {
            return;
        }
        before = now;
    }
}

/// The folders being watched. Watching a file itself would lose it when an editor replaces it.
struct Folders {
    watcher: RecommendedWatcher,
    /// Each with its device and inode: a folder that was replaced must be watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Folders {
    /// Watches what the present and the last attempted configuration name.
    fn follow(&mut self, reloader: &Reloader) {
        let identity = |f: PathBuf| std::fs::metadata(&f).ok().map(|m| (f, (m.dev(), m.ino())));
        let wanted: BTreeMap<_, _> = reloader.folders().into_iter().filter_map(identity).collect();
        self.watched.retain(|folder, id| {
            let keep = wanted.get(folder) == Some(id);
            if !keep {
                // Of a folder that is gone the watch is gone too.
                let _ = self.watcher.unwatch(folder);
            }
            keep
        });
        for (folder, id) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            if let Err(error) = self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                // Said once: it counts as watched, and is looked at from time to time.
                tracing::warn!(folder = %folder.display(), %error, "cannot be watched, changes are seen late");
            }
            self.watched.insert(folder, id);
        }
    }
}
