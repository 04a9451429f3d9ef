#![forbid(unsafe_code)]
//! Reading and writing files: wholly or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{CertError, Reason};

/// Bytes of a certificate, key or list at most.
const FILE_MAX: u64 = 1024 * 1024;

/// Mode of directories, of private keys, and of everything else.
const DIR_MODE: u32 = 0o700;
pub(crate) const KEY_MODE: u32 = 0o600;
pub(crate) const MODE: u32 = 0o644;

/// A file to write.
pub(crate) struct NewFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) mode: u32,
    pub(crate) text: &'a str,
}

/// Makes a directory, and those above it, which only their owner can read.
pub(crate) fn make_dir(dir: &Path) -> Result<(), CertError> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(CertError::io(dir))
}

/// Writes files into a directory: all of them, or none. Without `replace` none of them may exist.
/// Each is complete when it is seen.
pub(crate) fn write_all(dir: &Path, files: &[NewFile<'_>], replace: bool) -> Result<(), CertError> {
    let mut pending: Vec<Pending> = Vec::new();
    for file in files {
        let target = dir.join(file.name);
        if !replace && target.symlink_metadata().is_ok() {
            return Err(CertError::new(&target, Reason::Exists));
        }
        let beside = |what: &str| dir.join(format!(".{}.{what}.{}", file.name, std::process::id()));
        let new = Pending { target, temporary: beside("new"), backup: beside("old"), is_published: false };
        // Those of a process that died; the number of this one is in their names.
        remove(&new.temporary)?;
        remove(&new.backup)?;
        write_temporary(&new.temporary, file)?;
        pending.push(new);
    }
    for at in 0..pending.len() {
        if let Err(error) = pending[at].publish(replace) {
            pending.iter().for_each(Pending::take_back);
            return Err(error);
        }
    }
    // The names are on the disk, too.
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(CertError::io(dir))
}

fn remove(path: &Path) -> Result<(), CertError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(CertError::new(path, Reason::Io(error))),
        _ => Ok(()),
    }
}

fn write_temporary(path: &Path, file: &NewFile<'_>) -> Result<(), CertError> {
    let mut open = OpenOptions::new();
    let written = open
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)
        .and_then(|mut out| out.write_all(file.text.as_bytes()).and_then(|()| out.sync_all()));
    written.map_err(CertError::io(path))
}

/// A file under another name, until all of them can be published.
struct Pending {
    target: PathBuf,
    /// The new content, and what was there before. Both are removed at the end.
    temporary: PathBuf,
    backup: PathBuf,
    is_published: bool,
}

impl Pending {
    /// Publishes it. Links and renames are all that network file systems can do at once.
    fn publish(&mut self, replace: bool) -> Result<(), CertError> {
        let had_one = replace && self.target.symlink_metadata().is_ok();
        let published = match had_one {
            true => fs::hard_link(&self.target, &self.backup)
                .and_then(|()| fs::rename(&self.temporary, &self.target)),
            // It fails if there is one now.
            false => fs::hard_link(&self.temporary, &self.target),
        };
        published.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => CertError::new(&self.target, Reason::Exists),
            _ => CertError::new(&self.target, Reason::Io(error)),
        })?;
        self.is_published = true;
        Ok(())
    }

    /// Brings back what was there.
    fn take_back(&self) {
        if self.is_published && fs::rename(&self.backup, &self.target).is_err() {
            let _ = fs::remove_file(&self.target);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
        let _ = fs::remove_file(&self.backup);
    }
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, CertError> {
    let file = File::open(path).map_err(CertError::io(path))?;
    read_open(&file, path)
}

/// Reads a private key, which only its owner may be able to read.
pub(crate) fn read_key(path: &Path) -> Result<String, CertError> {
    let file = File::open(path).map_err(CertError::io(path))?;
    let mode = file.metadata().map_err(CertError::io(path))?.mode();
    if mode & 0o077 != 0 {
        return Err(CertError::new(path, Reason::KeyIsShared));
    }
    read_open(&file, path)
}

fn read_open(file: &File, path: &Path) -> Result<String, CertError> {
    let mut text = String::new();
    let read = file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(CertError::io(path))?;
    match u64::try_from(read) {
        Ok(read) if read <= FILE_MAX => Ok(text),
        _ => Err(CertError::new(path, Reason::TooLarge)),
    }
}
