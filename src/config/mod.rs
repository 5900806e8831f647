//! From a file to a [`Config`], or to every mistake in it at once.

mod machine;
mod text;

#[cfg(test)]
mod tests;

use crate::failure::{self, Failure};
use control::{Path, Problem, config::Config};
use std::{fmt, fs, io, path};
use text::{Mistake, judge};

/// What a configuration is loaded for, which decides how much of the machine is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The file alone.
    FileOnly,
    /// To run all of it here, or to tell whether that would work.
    Run,
    /// To be the data plane or the admin process, as the user that this process is.
    Serve,
    /// To change what is served, as the admin process: all that it needs has to be there, while one that starts makes do.
    Reload,
}

/// A file that can't be used, with all that is wrong in the order of its lines.
#[derive(Debug)]
pub(crate) struct Refused {
    file: path::PathBuf,
    mistakes: Vec<Mistake>,
}

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// What the file said.
    pub(crate) text: String,
    /// What works but should be looked at, a sentence each.
    pub(crate) warnings: Vec<String>,
}

pub(crate) fn load(file: &path::Path, purpose: Purpose) -> Result<Loaded, Refused> {
    let refused = |mistakes| Refused { file: file.to_owned(), mistakes };
    let text = fs::read_to_string(file).map_err(|error| {
        let right = "name a configuration file with --config";
        let problem = Problem { path: Path::default(), wrong: unreadable(&error), right: right.to_owned() };
        refused(vec![Mistake { line: None, problem }])
    })?;
    let mut warnings = Vec::new();
    let (config, mut mistakes) = judge(&text, |config| {
        if purpose == Purpose::FileOnly {
            return Vec::new();
        }
        let findings = machine::look(config, file, purpose);
        warnings = findings.warnings;
        findings.problems
    });
    if mistakes.is_empty() {
        return Ok(Loaded { config, text, warnings });
    }
    mistakes.sort_by_key(|mistake| mistake.line);
    Err(refused(mistakes))
}

/// A text by itself, whatever the machine.
pub(crate) fn read(name: &path::Path, text: &str) -> Result<Config, Refused> {
    let (config, mut mistakes) = judge(text, |_| Vec::new());
    mistakes.sort_by_key(|mistake| mistake.line);
    if mistakes.is_empty() { Ok(config) } else { Err(Refused { file: name.to_owned(), mistakes }) }
}

fn unreadable(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if error.kind() == io::ErrorKind::InvalidData {
        "is not UTF-8 text".to_owned()
    } else {
        format!("can't be read: {error}")
    }
}

impl Refused {
    pub(crate) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// For callers who show fields rather than lines: the line goes into the sentence.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let with_line = |mistake: Mistake| {
            let Problem { path, wrong, right } = mistake.problem;
            let wrong = mistake.line.map_or(wrong.clone(), |line| format!("{wrong} (line {line})"));
            Problem { path, wrong, right }
        };
        self.mistakes.into_iter().map(with_line).collect()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (at, Mistake { line, problem }) in self.mistakes.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            match line {
                Some(line) => write!(f, "{file}:{line}: ")?,
                None => write!(f, "{file}: ")?,
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let count = refused.count();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        Failure::new(failure::CONFIG, format!("{refused}\n{count} {noun} in {}", refused.file.display()))
    }
}
