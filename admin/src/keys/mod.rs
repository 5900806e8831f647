//! The keys file: the secrets of the affinity tokens, one per line in base64. The first seals, all open. A comment before a
//! key says when it was added, where this process did that; several nodes may share the file.

#[cfg(test)]
mod tests;

use crate::{clock, error::Error, history::keys::name};
use control::spec::Key;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// More keys than anybody opens tokens with, fewer than would slow that down.
pub(crate) const MAX_KEYS: usize = 16;
const MAX_FILE: u64 = 64 << 10;

/// A key as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// When it was made, in Unix seconds; absent where the file does not say so.
    pub(crate) added: Option<u64>,
}

const HEAD: &str = "# Keys of the affinity tokens: the first seals, all open. Keep them secret.\n";
const ADDED: &str = "# added ";

/// Reads the keys; where there is no file, makes one with one random key and mode 0600, and its folder with 0700.
pub(crate) fn load_or_create(path: &Path) -> Result<Vec<Entry>, Error> {
    match load(path) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(Error::file(parent))?;
            }
            let keys = vec![random()?];
            match write(path, &keys, Over::Nothing) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "made a keys file with one random key");
                    Ok(keys)
                }
                // Another node that shares it was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path),
                Err(error) => Err(Error::file(path)(error)),
            }
        }
        loaded => loaded,
    }
}

/// # Errors
/// The file can't be read, can be read or written by others than its owner, or holds no keys or wrong lines.
pub(crate) fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    let text = read_private(path, MAX_FILE)?;
    parse(&text).map_err(|reason| Error::Refused { path: path.to_owned(), reason })
}

/// The text of a file that holds a secret.
pub(crate) fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<String>, Error> {
    let file = File::open(path).map_err(Error::file(path))?;
    let mode = file.metadata().map_err(Error::file(path))?.mode();
    if mode & 0o066 != 0 {
        let reason = format!(
            "others than its owner can read or write it (mode {:04o}); run: chmod 600 {}",
            mode & 0o7777,
            path.display()
        );
        return Err(Error::Refused { path: path.to_owned(), reason });
    }
    // With room for all of it: what is outgrown is not wiped.
    let size = file.metadata().map_or(0, |metadata| metadata.len().min(limit));
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    file.take(limit).read_to_string(&mut text).map_err(Error::file(path))?;
    Ok(text)
}

/// A new key that seals, before the `keep - 1` newest of `keys`.
pub(crate) fn rotated(keys: &[Entry], keep: usize) -> Result<Vec<Entry>, Error> {
    Ok([fresh(keys)?].into_iter().chain(keys.iter().take(keep.saturating_sub(1)).cloned()).collect())
}

/// A new key behind the one that seals, before the `keep - 2` newest others of `keys`: it opens, until it is put first.
pub(crate) fn staged(keys: &[Entry], keep: usize) -> Result<Vec<Entry>, Error> {
    let (seals, others) = keys.split_at(keys.len().min(1));
    let others = others.iter().take(keep.saturating_sub(2));
    Ok(seals.iter().cloned().chain([fresh(keys)?]).chain(others.cloned()).collect())
}

/// Replaces the file: after a crash it holds the old keys or the new ones.
pub(crate) fn save(path: &Path, keys: &[Entry]) -> Result<(), Error> {
    write(path, keys, Over::Whatever).map_err(Error::file(path))
}

/// What a file may take the place of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Whatever,
}

fn write(path: &Path, keys: &[Entry], over: Over) -> io::Result<()> {
    // Of this process alone: others may write the same file.
    let fresh = path.with_added_extension(format!("{}.new", std::process::id()));
    let mut text = Zeroizing::new(String::with_capacity(HEAD.len() + 128 * keys.len()));
    text.push_str(HEAD);
    for Entry { key, added } in keys {
        let added = added.map(|added| format!("{ADDED}{added}\n")).unwrap_or_default();
        text.extend([added.as_str(), &Zeroizing::new(key.to_base64()), "\n"]);
    }
    drop(fs::remove_file(&fresh));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match over {
        Over::Whatever => fs::rename(&fresh, path)?,
        Over::Nothing => {
            let linked = fs::hard_link(&fresh, path);
            fs::remove_file(&fresh)?;
            linked?;
        }
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The keys of a file's text, or every wrong line by its number. What a line says is never repeated.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let (mut keys, mut wrong, mut seen, mut added) = (Vec::new(), Vec::new(), BTreeMap::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(seconds) = line.strip_prefix(ADDED) {
            added = seconds.parse().ok();
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse::<Key>() {
            Err(error) => wrong.push(format!("line {number}: {error}")),
            Ok(key) => match seen.insert(key.0, number) {
                Some(first) => wrong.push(format!("line {number}: the key of line {first} again")),
                None => keys.push(Entry { key, added: added.take() }),
            },
        }
    }
    if keys.len() > MAX_KEYS {
        wrong.push(format!("{} keys are too many: at most {MAX_KEYS}", keys.len()));
    }
    if keys.is_empty() && wrong.is_empty() {
        wrong.push("it holds no key; delete it and a new one is made, or write 32 random bytes in base64".to_owned());
    }
    if wrong.is_empty() { Ok(keys) } else { Err(wrong.join("; ")) }
}

fn random() -> Result<Entry, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::System(io::Error::other(error)))?;
    Ok(Entry { key: Key(bytes), added: Some(clock::unix_millis() / 1_000) })
}

/// One whose name none of `keys` has, so that each can be called by it.
fn fresh(keys: &[Entry]) -> Result<Entry, Error> {
    loop {
        let entry = random()?;
        if keys.iter().all(|known| name(&known.key) != name(&entry.key)) {
            return Ok(entry);
        }
    }
}
