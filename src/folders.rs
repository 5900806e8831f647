//! The folders that the configuration names, and small files that are replaced whole.

use crate::{failure::Failure, user::Account};
use control::config::Global;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::Path,
};

/// Makes what is absent. `owner` is given both folders; what is in them stays as it is.
pub(crate) fn make(global: &Global, owner: Option<&Account>) -> Result<(), Failure> {
    for (folder, mode) in [(&global.state_dir, 0o700), (&global.runtime_dir, 0o755)] {
        let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
        made.map_err(Failure::doing(format_args!("can't make {}", folder.display())))?;
        if let Some(owner) = owner {
            let given = chown(folder, Some(owner.uid), Some(owner.gid));
            given.map_err(Failure::doing(format_args!("can't give {} to {}", folder.display(), owner.name)))?;
        }
    }
    Ok(())
}

/// Readers see the old content or the new, never a part. The folder may belong to another user than this process's:
/// nothing that stands there is followed.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(new)?.write_all(content)?;
    fs::rename(new, file)
}
