//! The last snapshot on disk, from which a data plane starts when there is no admin process. It holds the keys of the
//! affinity tokens, and so is for its owner's eyes alone.

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
    file.write_all(&Zeroizing::new(serde_json::to_vec(snapshot)?))?;
    fs::rename(&beside, path)
}

/// `None` where there has never been one.
pub(super) fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let mut text = Zeroizing::new(Vec::new());
    match File::open(path) {
        Ok(file) => file.take(control::message::MAX_LINE as u64).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&text).map(Some).map_err(io::Error::from)
}
