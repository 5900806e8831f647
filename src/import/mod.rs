//! `steadfast import`: from another balancer's configuration to one of ours. What maps is written, and of each line that does
//! not it is told why, and what to do instead. Texts in, texts out; files are read and written here alone.

mod draft;
mod haproxy;
mod include;
mod nginx;
mod report;
mod routes;
mod write;

#[cfg(test)]
mod tests;

use crate::{
    config,
    failure::{self, Failure},
    output,
};
use clap::{Args, ValueEnum};
use draft::Draft;
use report::{Ledger, Source, Unreadable};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Import {
    /// The other balancer's configuration; `-` is standard input. Several files, and those of a folder that end in .cfg, are
    /// read as one, as HAProxy does.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whose configuration it is; told by what is in it unless given.
    #[arg(long, value_enum, value_name = "KIND")]
    from: Option<Kind>,
    /// Where the configuration is written, to a file that is not there yet; to standard output unless given.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell of every line what became of it, also where it was taken or is not needed.
    #[arg(long)]
    verbose: bool,
    /// Exit with 1 where lines were not taken; the configuration is written all the same.
    #[arg(long)]
    strict: bool,
}

const HELP: &str = "\
The report goes to standard error: each line that was not taken, with the reason and what to do instead, each line that
means something a little else here, and how many fared how. No line is passed over in silence.

  steadfast import /etc/haproxy/haproxy.cfg --output steadfast.toml
  steadfast check --config steadfast.toml";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Haproxy,
    Nginx,
}

pub(crate) fn run(arguments: &Import) -> Result<(), Failure> {
    let sources = read(&arguments.files)?;
    let kind = arguments.from.map_or_else(|| kind_of(&sources), Ok)?;
    let made = convert(kind, &sources)?;
    judged(&made)?;
    let mut error = io::stderr();
    error.write_all(made.ledger.report(arguments.verbose).as_bytes())?;
    match &arguments.output {
        None => output::print(&made.text)?,
        Some(file) => save(file, &made)?,
    }
    match made.ledger.not_taken() {
        left @ 1.. if arguments.strict => Err(Failure::general(format!("--strict: {left} not taken"))),
        _ => Ok(()),
    }
}

/// A configuration of ours, and what became of each line.
#[derive(Debug)]
struct Made {
    text: String,
    ledger: Ledger,
    /// Whether something in it is nobody else's to see.
    has_secrets: bool,
}

fn convert(kind: Kind, sources: &[Source]) -> Result<Made, Failure> {
    let mut ledger = Ledger::new(sources);
    let made = match kind {
        Kind::Haproxy => haproxy::import(&mut ledger, variables()),
        Kind::Nginx => {
            let prefix = sources.first().and_then(|source| Path::new(&source.name).parent()).map(Path::to_owned);
            let prefix = prefix.unwrap_or_default();
            nginx::import(&mut ledger, &|pattern| include::files(&prefix, pattern))
        }
    };
    match made {
        Ok(draft) => Ok(finish(&draft, ledger)),
        Err(error) => Err(refused(&error, &ledger)),
    }
}

fn finish(draft: &Draft, ledger: Ledger) -> Made {
    let names: Vec<_> = ledger.sources().iter().map(|source| source.name.as_str()).collect();
    let head = format!(
        "Made by `steadfast import` from {}.\nRead it, and what was told of the lines that were not taken, before it serves.",
        names.join(", ")
    );
    let text = write::toml(draft, &ledger, &head);
    let mut adopted = draft.config.pools.iter().flat_map(|pool| &pool.affinity.adopt);
    let has_secrets = adopted.any(|adopt| adopt.key.is_some());
    Made { text, ledger, has_secrets }
}

/// That `check` finds nothing in it; that it does not is ours to see to, and not the user's.
fn judged(made: &Made) -> Result<(), Failure> {
    let name = Path::new("the configuration that was made");
    let judged = config::read(name, &made.text);
    judged.map(drop).map_err(|refused| {
        Failure::general(format!(
            "{refused}\nThis is a mistake in Steadfast, and not in what was imported: please tell us."
        ))
    })
}

fn refused(error: &Unreadable, ledger: &Ledger) -> Failure {
    let name = |file: usize| ledger.sources().get(file).map_or("", |source| source.name.as_str());
    let told = match error.place {
        Some(place) => format!("{}:{}: {}", name(place.file), place.line, error.why),
        None => format!("{}: {}", name(0), error.why),
    };
    Failure::new(failure::CONFIG, told)
}

/// Variables of this process's environment, by which HAProxy's files may be completed.
fn variables() -> BTreeMap<String, String> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn read(files: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for file in files {
        if file.is_dir() {
            let inside = folder(file).map_err(|error| unreadable(file, &error))?;
            if inside.is_empty() {
                return Err(Failure::new(
                    failure::CONFIG,
                    format!("{}: has no file that ends in .cfg", file.display()),
                ));
            }
            for file in inside {
                sources.push(source(&file)?);
            }
        } else {
            sources.push(source(file)?);
        }
    }
    Ok(sources)
}

/// As HAProxy takes a folder: its files that end in `.cfg`, in the order of their names.
fn folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    let is_hidden = |file: &Path| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    files.retain(|file| file.extension().is_some_and(|ending| ending == "cfg") && !is_hidden(file));
    files.sort();
    Ok(files)
}

fn source(file: &Path) -> Result<Source, Failure> {
    let (mut bytes, is_input) = (Vec::new(), file.as_os_str() == "-");
    let read =
        if is_input { io::stdin().read_to_end(&mut bytes).map(drop) } else { fs::read(file).map(|all| bytes = all) };
    read.map_err(|error| unreadable(file, &error))?;
    let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    // Comments may be in whatever coding.
    Ok(Source { name, text: String::from_utf8_lossy(&bytes).into_owned() })
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::new(failure::CONFIG, format!("{}: can't be read: {error}", file.display()))
}

fn save(file: &Path, made: &Made) -> Result<(), Failure> {
    let mode = if made.has_secrets { 0o640 } else { 0o644 };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    opened.and_then(|mut opened| opened.write_all(made.text.as_bytes())).map_err(|error| {
        let file = file.display();
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::general(format!("{file} is there already: name another file, or remove it"))
        } else {
            Failure::general(format!("can't write {file}: {error}"))
        }
    })
}

/// Whose configuration it is, by its first word.
fn kind_of(sources: &[Source]) -> Result<Kind, Failure> {
    let lines = sources.iter().flat_map(|source| source.text.lines());
    let mut said = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = said.next().unwrap_or_default();
    let word = first.split_whitespace().next().unwrap_or_default();
    if haproxy::begins(word) || word == ".if" {
        return Ok(Kind::Haproxy);
    }
    // Each directive of nginx ends in one of these.
    if sources.iter().any(|source| source.text.contains(['{', ';'])) {
        return Ok(Kind::Nginx);
    }
    let name = sources.first().map_or("", |source| source.name.as_str());
    Err(Failure::new(failure::CONFIG, format!("{name}: whose configuration is it? say so with --from")))
}
