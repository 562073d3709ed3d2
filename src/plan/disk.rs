//! Opens the disk level of an HTTP cache. A folder can be open only once: it is known by its path, and what a reload
//! finds open it takes over.

use super::semantic::can_be_made;
use super::shared::Shared;
use crate::cache::store::disk::{DiskOptions, DiskStore, SIZE_BYTES_MIN};
use crate::config::cache::{Admission, Cache};
use std::path::Path;
use std::sync::Arc;

/// The key at fault, below `disk`, and what is wrong.
type Wrong = (&'static str, String);

/// Opens what the cache of this name has for a disk level, if it has one. A mere check opens nothing.
pub fn open(name: &str, cache: &Cache, base: &Path, shared: &Shared) -> Result<Option<Arc<DiskStore>>, Wrong> {
    let Some(level) = &cache.disk else { return Ok(None) };
    if level.size.0 < SIZE_BYTES_MIN {
        return Err((".size", "at least 16MiB".to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.starts_with('.') || !name.chars().all(plain) {
        let what = "the name of a cache with a disk level is the name of a folder too: letters, digits, - and _";
        return Err(("", what.to_owned()));
    }
    let folder = base.join(&level.path).join(name);
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    if shared.check_only {
        return can_be_made(&folder).map(|()| None).map_err(|e| (".path", e));
    }
    let wanted = (level.size, level.admission);
    let make = || {
        let options = DiskOptions {
            folder: folder.clone(),
            size_bytes: level.size.0,
            always: level.admission == Admission::Always,
            clock: shared.clock.clone(),
        };
        DiskStore::open(&options).map(Arc::new)
    };
    let opened = shared.disks.get_open(&folder.display().to_string(), &wanted, make);
    let (disk, other) = opened.map_err(|e| (".path", e.to_string()))?;
    if other {
        tracing::warn!(cache = name, "size and admission of a disk level change only with a restart");
    }
    Ok(Some(disk))
}
