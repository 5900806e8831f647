//! Sections of HAProxy's configuration, and which defaults hold for each.

use super::lexer::{self, Variables};
use crate::import::report::{Ledger, Place, Unreadable, Verdict};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) place: Place,
    pub(super) words: Vec<String>,
}

impl Statement {
    pub(super) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Global,
    Defaults,
    Frontend,
    Backend,
    Listen,
    /// One of which nothing is looked at but its name.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) kind: Kind,
    /// The word that begins it.
    pub(super) word: String,
    pub(super) name: String,
    /// Where it begins.
    pub(super) place: Place,
    /// Its last line.
    pub(super) last: usize,
    /// The defaults that hold for it, by their number among all sections.
    pub(super) defaults: Option<usize>,
    pub(super) statements: Vec<Statement>,
}

/// Words that begin a section.
const WORDS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "userlist",
    "resolvers",
    "mailers",
    "program",
    "http-errors",
    "ring",
    "cache",
    "fcgi-app",
    "log-forward",
    "log-profile",
    "crt-store",
    "traces",
    "acme",
];

/// Whether this word begins a section.
pub(in crate::import) fn begins(word: &str) -> bool {
    WORDS.contains(&word)
}

/// Reads all sources as one, as HAProxy does with several files.
pub(super) fn read(ledger: &mut Ledger, mut variables: Variables) -> Result<Vec<Section>, Unreadable> {
    let mut reader = Reader::default();
    for (file, source) in ledger.sources().to_vec().iter().enumerate() {
        for (at, text) in source.text.lines().enumerate() {
            let place = Place { file, line: at + 1 };
            let Some(line) = lexer::line(text, place, &variables)? else { continue };
            ledger.says(place);
            reader.line(ledger, place, line, &mut variables)?;
        }
        // A section ends with its file, and so does a condition.
        reader.condition = None;
    }
    if reader.sections.is_empty() {
        return Err(Unreadable { place: None, why: "has no section, such as `frontend` or `backend`".to_owned() });
    }
    Ok(reader.sections)
}

#[derive(Default)]
struct Reader {
    sections: Vec<Section>,
    /// Defaults by name, and the last ones before this line.
    named: BTreeMap<String, usize>,
    latest: Option<usize>,
    /// Where the outermost `.if` stands that has not ended, and how deep this is.
    condition: Option<(Place, usize)>,
}

impl Reader {
    fn line(
        &mut self,
        ledger: &mut Ledger,
        place: Place,
        line: lexer::Line,
        variables: &mut Variables,
    ) -> Result<(), Unreadable> {
        let word = line.words.first().map(String::as_str).unwrap_or_default();
        if self.is_conditional(ledger, place, word) {
            return Ok(());
        }
        if !line.unset.is_empty() {
            let why = format!("`{}` is not set here: set it and import again", line.unset.join("`, `"));
            ledger.remark(place, Verdict::not_taken(why));
            return if begins(word) {
                Err(Unreadable::at(place, "the name of a section has a variable in it that is not set"))
            } else {
                Ok(())
            };
        }
        if begins(word) {
            return self.begin(ledger, place, &line.words);
        }
        let Some(section) = self.sections.last_mut() else {
            return Err(Unreadable::at(place, format!("`{word}` stands in no section")));
        };
        if section.kind == Kind::Global
            && let [set @ ("setenv" | "presetenv"), name, value] =
                &line.words.iter().map(String::as_str).collect::<Vec<_>>()[..]
            && (*set == "setenv" || !variables.contains_key(*name))
        {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        if section.place.file == place.file {
            section.last = place.line;
        }
        section.statements.push(Statement { place, words: line.words });
        Ok(())
    }

    /// `.if` and what belongs to it: which branch holds is HAProxy's to say.
    fn is_conditional(&mut self, ledger: &mut Ledger, place: Place, word: &str) -> bool {
        match (&mut self.condition, word) {
            (None, ".if") => {
                self.condition = Some((place, 1));
                let why = "which branch holds is not judged here: keep the lines of one, without `.if` and `.endif`";
                ledger.remark(place, Verdict::not_taken(why));
            }
            (Some((_, depth)), ".if") => *depth += 1,
            (Some((_, 1)), ".endif") => {
                let begin = self.condition.take();
                begin.into_iter().for_each(|(begin, _)| ledger.follow(place, begin));
                return true;
            }
            (Some((_, depth)), ".endif") => *depth -= 1,
            (Some(_), _) => {}
            (None, ".notice" | ".warning" | ".alert" | ".diag") => {
                ledger.remark(place, Verdict::not_needed("it says something at HAProxy's start"));
                return true;
            }
            (None, _) => return false,
        }
        if let Some((begin, _)) = self.condition {
            ledger.follow(place, begin);
        }
        true
    }

    fn begin(&mut self, ledger: &mut Ledger, place: Place, words: &[String]) -> Result<(), Unreadable> {
        let kind = match words[0].as_str() {
            "global" => Kind::Global,
            "defaults" => Kind::Defaults,
            "frontend" => Kind::Frontend,
            "backend" => Kind::Backend,
            "listen" => Kind::Listen,
            _ => Kind::Other,
        };
        let from = words.iter().position(|word| word == "from").filter(|at| *at <= 2 && kind != Kind::Other);
        let name = words.get(1).filter(|_| from != Some(1)).cloned().unwrap_or_default();
        if name.is_empty() && matches!(kind, Kind::Frontend | Kind::Backend | Kind::Listen) {
            return Err(Unreadable::at(place, format!("this `{}` has no name", words[0])));
        }
        let defaults = match from.and_then(|at| words.get(at + 1)) {
            Some(wanted) => match self.named.get(wanted) {
                Some(index) => Some(*index),
                None => return Err(Unreadable::at(place, format!("there are no defaults `{wanted}` before it"))),
            },
            None if kind == Kind::Defaults => None,
            None => self.latest,
        };
        let index = self.sections.len();
        if kind == Kind::Defaults {
            self.latest = Some(index);
            if !name.is_empty() {
                self.named.insert(name.clone(), index);
            }
        }
        for extra in words.iter().skip(from.map_or(2, |at| at + 2)).filter(|_| kind != Kind::Other) {
            // Old HAProxy took an address here.
            ledger.part(place, extra, Verdict::not_taken("nothing is known of it in this place"));
        }
        let word = words[0].clone();
        let section = Section { kind, word, name, place, last: place.line, defaults, statements: Vec::new() };
        self.sections.push(section);
        Ok(())
    }
}

/// The statements that hold for a section: those of its defaults, the outermost first, then its own.
pub(super) fn in_effect(sections: &[Section], index: usize) -> Vec<(&Statement, bool)> {
    let mut chain = vec![index];
    // Each stands behind those that it takes from, so that this ends.
    while let Some(outer) = chain.last().and_then(|index| sections[*index].defaults) {
        chain.push(outer);
    }
    let statements = chain.iter().rev().flat_map(|at| sections[*at].statements.iter().map(|each| (each, *at == index)));
    statements.collect()
}
