//! A TOML document that is read as far as it can be, with the line of everything in it.

use super::{Mistake, wording};
use control::{Path, Problem, check::Step, config::Config};
use serde_path_to_error::Segment;
use std::{mem, ops::Range};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, ValueDeserializer},
};

/// Decoding stops at so many mistakes: the whole document is decoded anew after each.
const MOST: usize = 500;

#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    root: Spanned<DeValue<'t>>,
}

/// What could be decoded once all that could not was taken out.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) config: Config,
    pub(super) mistakes: Vec<Mistake>,
    /// What is absent from `config` though the file seems to mean it.
    missed: Vec<Path>,
}

impl<'t> Document<'t> {
    /// With every syntax error; what stands beside them is read all the same.
    pub(super) fn read(text: &'t str) -> (Self, Vec<Mistake>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self { text, root: Spanned::new(root.span(), DeValue::Table(root.into_inner())) };
        let mistakes = errors.iter().map(|error| {
            let line = error.span().map(|span| document.line(span.start));
            let (wrong, right) = wording::syntax(error.message());
            Mistake { line, problem: Problem { path: Path::default(), wrong, right } }
        });
        let mistakes = mistakes.collect();
        (document, mistakes)
    }

    /// Decodes; what does not fit is recorded, taken out of this document, and the rest tried again.
    pub(super) fn decode(&mut self) -> Decoded {
        let mut decoded = Decoded::default();
        while decoded.mistakes.len() < MOST {
            let error = match serde_path_to_error::deserialize(ValueDeserializer::from(self.root.clone())) {
                Ok(config) => {
                    decoded.config = config;
                    break;
                }
                Err(error) => error,
            };
            let (path, message) = (own_path(error.path()), error.inner().message());
            if wording::wants_a_word(message) && self.make_a_word(&path) {
                continue;
            }
            let removed = take_out(self.root.get_mut(), &path.0);
            let line = removed.as_ref().map(|span| self.line(span.start));
            let wording::Value { wrong, right, meant } = wording::value(message);
            let meant = meant.zip(path.0.split_last()).map(|(key, (_, parent))| Path(parent.to_vec()).key(&key));
            decoded.missed.extend(meant.filter(|meant| self.get(meant).is_none()));
            decoded.missed.push(path.clone());
            decoded.mistakes.push(Mistake { line, problem: Problem { path, wrong, right } });
            if removed.is_none() {
                break;
            }
        }
        decoded
    }

    /// Turns a value that is no string into one as it was written: the error that comes then lists the known words.
    fn make_a_word(&mut self, path: &Path) -> bool {
        let text = self.text;
        let value = path.0.iter().try_fold(&mut self.root, |value, step| child_mut(value.get_mut(), step));
        value.is_some_and(|value| {
            let written = text.get(value.span()).unwrap_or_default();
            *value.get_mut() = DeValue::String(written.into());
            true
        })
    }

    fn get(&self, path: &Path) -> Option<&Spanned<DeValue<'t>>> {
        path.0.iter().try_fold(&self.root, |value, step| child(value.get_ref(), step))
    }

    /// The problem with the line of what it concerns, or of the innermost table that should hold it.
    pub(super) fn locate(&self, problem: Problem) -> Mistake {
        let (mut value, mut line) = (&self.root, None);
        for step in &problem.path.0 {
            let Some(inner) = child(value.get_ref(), step) else { break };
            value = inner;
            line = Some(self.line(value.span().start));
        }
        Mistake { line, problem }
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

impl Decoded {
    /// Whether a problem at `path` may come only from what had to be taken out.
    pub(super) fn explains(&self, path: &Path) -> bool {
        let names_a_pool = |missed: &Path| match missed.0.as_slice() {
            [Step::Key(pool)] | [Step::Key(pool), Step::Index(_)] => pool == "pool",
            [Step::Key(pool), Step::Index(_), Step::Key(name)] => pool == "pool" && name == "name",
            _ => false,
        };
        // A listener leads nowhere, a route is the same as another: perhaps only for want of these.
        let speaks_of = |missed: &Path| match missed.0.split_last() {
            Some((Step::Key(key), parent)) => {
                parent == path.0.as_slice() && ["pool", "route", "host", "path"].contains(&key.as_str())
            }
            _ => false,
        };
        let leads_to_a_pool = path.0.len() > 1 && path.0.ends_with(&[Step::Key("pool".to_owned())]);
        self.missed.iter().any(|missed| {
            path.0.starts_with(&missed.0) || speaks_of(missed) || (leads_to_a_pool && names_a_pool(missed))
        })
    }
}

fn child<'a, 't>(value: &'a DeValue<'t>, step: &Step) -> Option<&'a Spanned<DeValue<'t>>> {
    match step {
        Step::Key(key) => value.as_table()?.get(key.as_str()),
        Step::Index(index) => value.as_array()?.as_ref().get(*index),
    }
}

fn child_mut<'a, 't>(value: &'a mut DeValue<'t>, step: &Step) -> Option<&'a mut Spanned<DeValue<'t>>> {
    match (value, step) {
        (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()),
        (DeValue::Array(array), Step::Index(index)) => array.as_mut().get_mut(*index),
        _ => None,
    }
}

/// Removes what `path` leads to. Returns where it stood, a table's header or a key rather than what comes after it.
fn take_out(value: &mut DeValue<'_>, path: &[Step]) -> Option<Range<usize>> {
    match (value, path) {
        (DeValue::Table(table), [Step::Key(key)]) => table.remove_entry(key.as_str()).map(|(key, _)| key.span()),
        (DeValue::Array(array), [Step::Index(index)]) => {
            let removed = array.as_ref().get(*index)?.span();
            if array.iter().any(|item| item.get_ref().is_table()) {
                // Something else among tables: an empty one in its place keeps the numbers of the others.
                *array.as_mut().get_mut(*index)?.get_mut() = DeValue::Table(DeTable::new());
            } else {
                let items = mem::replace(array, DeArray::new()).into_iter().enumerate();
                items.filter(|(at, _)| at != index).for_each(|(_, item)| array.push(item));
            }
            Some(removed)
        }
        (value, [step, rest @ ..]) => take_out(child_mut(value, step)?.get_mut(), rest),
        (_, []) => None,
    }
}

fn own_path(path: &serde_path_to_error::Path) -> Path {
    path.iter().fold(Path::default(), |path, segment| match segment {
        Segment::Map { key } => path.key(key),
        Segment::Seq { index } => path.index(*index),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}
