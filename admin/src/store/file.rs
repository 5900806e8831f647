//! The store's file: made whole or not at all.

use redb::{Builder, Database, DatabaseError};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Opens the store, which is made where there is none: beside its place, and put there once it is whole. A process that dies
/// over that must not leave half of one, which nobody could open.
pub(super) fn open(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    if !is_there(path) {
        let beside = path.with_added_extension("new");
        create(&beside)?;
        drop(database(builder, &beside)?);
        put(&beside, path)?;
    }
    database(builder, path)
}

fn is_there(path: &Path) -> bool {
    #[cfg(feature = "simulation")]
    if let Some(disk) = crate::simulation::disk_of(path) {
        return disk.has(path);
    }
    // An empty one is no store yet.
    fs::metadata(path).is_ok_and(|found| found.len() > 0)
}

/// An empty file that only its owner can read.
fn create(path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = crate::simulation::disk_of(path) {
        return disk.create(path);
    }
    // What one left that died over it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Puts a file to its place, on disk with all that is in it when this returns.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = crate::simulation::disk_of(from) {
        return disk.rename(from, to);
    }
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn database(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    #[cfg(feature = "simulation")]
    if let Some(disk) = crate::simulation::disk_of(path) {
        return builder.create_with_backend(disk.open(path));
    }
    builder.create(path)
}
