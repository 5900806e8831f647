//! The last snapshot on disk, from which a data plane starts when there is no admin process: a line of JSON, and one with its
//! sum, for a changed byte may well be another address. It holds the keys of the affinity tokens, and so is for its owner's eyes
//! alone.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD};
use control::desired::Snapshot;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};
use zeroize::Zeroizing;

/// Replaces the file in one step: a reader finds the old one or the new one, whole. It survives the death of the process;
/// to survive a loss of power as well is the store's part, whose state comes first at every start.
pub(super) fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let mut text = Zeroizing::new(serde_json::to_vec(snapshot)?);
    let sum = sum(&text);
    text.push(b'\n');
    text.extend_from_slice(sum.as_bytes());
    file.write_all(&text)?;
    fs::rename(&beside, path)
}

fn sum(text: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, text))
}

/// `None` where there has never been one.
pub(super) fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let mut text = Zeroizing::new(Vec::new());
    match File::open(path) {
        Ok(file) => file.take(control::message::MAX_LINE as u64).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // One without a sum was written by an older version.
    let end = memchr::memchr(b'\n', &text).unwrap_or(text.len());
    let (line, told) = text.split_at(end);
    if !told.is_empty() && told[1..] != *sum(line).as_bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
    }
    serde_json::from_slice(line).map(Some).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{
        desired::{Member, PoolState},
        spec::{Backend, Pool},
    };

    /// Fixed: a byte that was another than the one written was served by, as another weight or another address.
    #[test]
    fn what_is_not_as_it_was_written_is_not_read() {
        let folder = std::env::temp_dir().join(format!("steadfast-snapshot-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("dataplane.json");
        let mut snapshot = Snapshot { generation: 7, ..Snapshot::default() };
        let backend = Backend { address: "10.0.0.1:80".into(), ..Backend::default() };
        let members = [("a".to_owned(), Member::new(&backend, 7))].into();
        let settings = Pool { name: "shop".into(), ..Pool::default() };
        snapshot.desired.pools.insert("shop".into(), PoolState { settings, members });
        write(&path, &snapshot).unwrap();
        assert_eq!(read(&path).unwrap().as_ref(), Some(&snapshot));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for harmed in [whole[..at].to_vec(), [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat()] {
                fs::write(&path, harmed).unwrap();
                if let Ok(read) = read(&path) {
                    assert_eq!(read, Some(snapshot.clone()), "at {at} of {}", whole.len());
                }
            }
        }
        // As versions without a sum of it wrote it.
        fs::write(&path, serde_json::to_vec(&snapshot).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(snapshot));
        fs::remove_dir_all(folder).unwrap();
    }
}
