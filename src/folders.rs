//! The folders that the configuration names, and small files that are replaced whole.

use crate::{failure::Failure, user::Account};
use control::{
    access_log::{AccessLog, LogTo},
    config::{Config, Global},
};
use sandbox::Role;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, fchown},
    path::{Path, PathBuf},
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

/// Makes the folder of the keys file, where that is absent.
pub(crate) fn make_for_keys(global: &Global) -> Result<(), Failure> {
    let folder = folder_of(&global.keys_path());
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(Failure::doing(format_args!("can't make {}", folder.display())))
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Where a child makes, replaces or takes away files as it runs.
pub(crate) fn written_by(role: Role, config: &Config) -> Vec<PathBuf> {
    let global = &config.global;
    let mut written = vec![global.state_dir.clone()];
    match role {
        Role::Dataplane => {
            if let Some(AccessLog { to: LogTo::File(file), .. }) = &config.access_log {
                // Rotated, it is made anew; and it may be a link, or a device, whose folder is not its own.
                written.extend([folder_of(file), file.clone()]);
            }
        }
        Role::Admin => {
            let keys = global.keys_path();
            written.extend([global.runtime_dir.clone(), folder_of(&keys)]);
            written.extend(config.admin.audit_log.iter().flat_map(|file| [folder_of(file), file.clone()]));
        }
    }
    written
}

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers<'a> {
    All,
    /// This user alone; without one, that of this process.
    One(Option<&'a Account>),
}

/// Readers see the old content or the new, never a part. The folder may belong to another user than this process's:
/// nothing that stands there is followed.
pub(crate) fn replace(file: &Path, content: &[u8], readers: Readers<'_>) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if matches!(readers, Readers::All) { 0o644 } else { 0o600 };
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    if let Readers::One(Some(reader)) = readers {
        fchown(&written, Some(reader.uid), Some(reader.gid))?;
    }
    written.write_all(content)?;
    fs::rename(new, file)
}
