//! Files that nginx's `include` leads to.

use super::report::Source;
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Those that a pattern fits, in the order of their names. A pattern that fits none is no mistake; a name alone is.
pub(super) fn files(prefix: &Path, pattern: &str) -> Result<Vec<Source>, String> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { prefix.to_owned() }];
    for part in Path::new(pattern).components() {
        let Component::Normal(part) = part else {
            if part == Component::ParentDir {
                found.iter_mut().for_each(|path| path.push(".."));
            }
            continue;
        };
        let part = part.to_string_lossy();
        if part.contains(['*', '?']) {
            found = found.iter().flat_map(|folder| inside(folder, &part)).collect();
        } else {
            found.iter_mut().for_each(|path| path.push(&*part));
        }
    }
    let is_pattern = pattern.contains(['*', '?']);
    found.retain(|path| !is_pattern || path.is_file());
    let read = |path: &PathBuf| match fs::read(path) {
        Ok(bytes) => {
            Ok(Source { name: path.display().to_string(), text: String::from_utf8_lossy(&bytes).into_owned() })
        }
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
    };
    found.iter().map(read).collect()
}

/// What a pattern fits in a folder.
fn inside(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = fs::read_dir(here).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> =
        names.filter(|name| !name.starts_with('.') && fits(name.as_bytes(), pattern.as_bytes())).collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// `*` is any text, `?` any one byte.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    match (name, pattern) {
        (_, []) => name.is_empty(),
        (_, [b'*', rest @ ..]) => (0..=name.len()).any(|at| fits(&name[at..], rest)),
        ([first, name @ ..], [wanted, rest @ ..]) => (*wanted == b'?' || wanted == first) && fits(name, rest),
        ([], _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (name, pattern, holds) in [
            ("a.conf", "*.conf", true),
            ("a.conf.old", "*.conf", false),
            ("ab", "a?", true),
            ("a", "a?", false),
            ("x", "*", true),
        ] {
            assert_eq!(fits(name.as_bytes(), pattern.as_bytes()), holds, "{name} {pattern}");
        }
    }
}
