#![forbid(unsafe_code)]
//! Reading and writing files: wholly or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

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
    let mut pending = Pending::default();
    for file in files {
        let target = dir.join(file.name);
        if !replace && target.symlink_metadata().is_ok() {
            return Err(CertError::new(&target, Reason::Exists));
        }
        let temporary = dir.join(format!(".{}.{}", file.name, std::process::id()));
        write_temporary(&temporary, file)?;
        pending.0.push((temporary, target));
    }
    pending.publish(replace)?;
    // The names are on the disk, too.
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(CertError::io(dir))
}

fn write_temporary(path: &Path, file: &NewFile<'_>) -> Result<(), CertError> {
    let failed = CertError::io(path);
    // One of a process that died; the number of this one is in its name.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut open = OpenOptions::new();
    let written = open
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)
        .and_then(|mut out| out.write_all(file.text.as_bytes()).and_then(|()| out.sync_all()));
    written.map_err(|error| {
        let _ = fs::remove_file(path);
        failed(error)
    })
}

/// Files that are written under other names. Those that are not published are removed.
#[derive(Default)]
struct Pending(Vec<(PathBuf, PathBuf)>);

impl Pending {
    fn publish(mut self, replace: bool) -> Result<(), CertError> {
        let mut published: Vec<PathBuf> = Vec::new();
        for (temporary, target) in std::mem::take(&mut self.0) {
            let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match renameat_with(CWD, &temporary, CWD, &target, flags) {
                Ok(()) => published.push(target),
                Err(error) => {
                    self.0.push((temporary, target.clone()));
                    // What was replaced cannot be brought back; what is new goes.
                    if !replace {
                        published.iter().for_each(|path| drop(fs::remove_file(path)));
                    }
                    return Err(match error {
                        rustix::io::Errno::EXIST => CertError::new(&target, Reason::Exists),
                        error => CertError::io(&target)(error.into()),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.iter().for_each(|(temporary, _)| drop(fs::remove_file(temporary)));
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
