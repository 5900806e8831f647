//! What is made of files, and made anew when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What was last made of files that could be used, whatever they hold by now.
#[derive(Debug)]
pub struct Followed<T> {
    files: Vec<(PathBuf, Option<Stamp>)>,
    value: Option<T>,
    refused: Option<String>,
}

/// By what a change of a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    /// Of the content or of who may read it.
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.size(), changed })
    }
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self { files: Vec::new(), value: None, refused: None }
    }
}

impl<T> Followed<T> {
    /// Absent while nothing could be made of the files since this began.
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// What is wrong with the files as they were when they were last read.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Whether a file is another than was last read.
    pub fn has_changed(&self) -> bool {
        self.files.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }

    /// Makes the value anew, of these files and what was made before. The one before stays where that fails.
    ///
    /// # Errors
    /// The reason, as `make` has it; [`Self::refused`] keeps it.
    pub fn read<'f>(
        &mut self,
        files: impl Iterator<Item = &'f Path>,
        make: impl FnOnce(Option<&T>) -> Result<T, String>,
    ) -> Result<&T, &str> {
        // Before they are read: what is written meanwhile is a change.
        self.files = files.map(|file| (file.to_owned(), Stamp::of(file))).collect();
        match make(self.value.as_ref()) {
            Ok(value) => {
                self.refused = None;
                Ok(self.value.insert(value))
            }
            Err(reason) => Err(self.refused.insert(reason)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_leaves_the_value_before_and_a_change_of_it_shows() {
        let file = std::env::temp_dir().join(format!("steadfast-followed-{}", std::process::id()));
        fs::write(&file, "1").unwrap();
        let mut followed = Followed::default();
        let read = |followed: &mut Followed<u32>| {
            let made = followed.read([file.as_path()].into_iter(), |_| {
                fs::read_to_string(&file)
                    .map_err(|error| error.to_string())?
                    .parse()
                    .map_err(|_| "no number".to_owned())
            });
            made.copied().map_err(str::to_owned)
        };
        assert_eq!(read(&mut followed), Ok(1));
        assert!(!followed.has_changed());
        let other = file.with_extension("other");
        fs::write(&other, "x").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(followed.has_changed(), "another file of the same size");
        assert_eq!(read(&mut followed), Err("no number".to_owned()));
        assert_eq!((followed.value(), followed.refused()), (Some(&1), Some("no number")));
        assert!(!followed.has_changed(), "it is known to be bad");
        fs::remove_file(&file).unwrap();
        assert!(followed.has_changed());
        assert!(read(&mut followed).is_err() && !followed.has_changed());
        fs::write(&file, "22").unwrap();
        assert!(followed.has_changed());
        assert_eq!((read(&mut followed), followed.refused()), (Ok(22), None));
        fs::remove_file(&file).unwrap();
    }
}
