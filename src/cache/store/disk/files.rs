//! The seam to the file system: one folder that belongs to one store of one process. All that is created, written,
//! renamed or removed goes through here, so that a test can make any of it fail.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::atomic::{AtomicI32, Ordering};

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made, read or written.
    #[error("folder {}: {why}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// Another process has it.
    #[error("folder {} is in use by another process (it holds the lock file)", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// See the file's head.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// The errno that every write gives; 0 is none.
    #[cfg(test)]
    pub fault: AtomicI32,
}

/// The file whose lock says that the folder is in use.
const LOCK: &str = "lock";

/// What the names of the log of purges begin with.
const PURGES: &str = "purges.";

impl Files {
    /// Makes the folder where it is missing, and locks it for as long as the second part is kept open.
    pub fn open(folder: &Path) -> Result<(Self, File), FolderError> {
        let failed = |why| FolderError::Io { path: folder.to_owned(), why };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        let files = Files {
            folder: folder.to_owned(),
            #[cfg(test)]
            fault: AtomicI32::new(0),
        };
        Ok((files, lock))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    #[cfg(test)]
    fn check(&self) -> io::Result<()> {
        match self.fault.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "only tests make it fail")]
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    /// Names and lengths of all files but the lock.
    pub fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let about = entry.metadata()?;
            if about.is_file() && name != LOCK && !name.starts_with(PURGES) {
                out.push((name, about.len()));
            }
        }
        Ok(out)
    }

    /// A new file for reading and writing.
    pub fn create(&self, name: &str) -> io::Result<File> {
        self.check()?;
        let path = self.folder.join(name);
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// One that is there.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.folder.join(name))
    }

    /// Writes all of it at this place.
    pub fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check()?;
        file.write_all_at(bytes, at)
    }

    /// Cuts a file.
    #[expect(clippy::unused_self, reason = "part of the seam")]
    pub fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Gives a file its final name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check()?;
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    /// Removes a file; one that is gone is fine.
    pub fn remove(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.folder.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.folder.display(), name, "a cache file could not be removed");
        }
    }
}
