//! A configuration of ours in the making, with the lines that each part of it came from.

use super::report::Place;
use control::{
    Problem,
    check::{self, MAX_NAME, is_name},
    config::Config,
    spec::{Listener, Pool},
};
use std::collections::{BTreeMap, BTreeSet};

/// Where parts of a configuration came from, by their paths in it: `pool.0.backend.1`.
pub(crate) type Notes = BTreeMap<String, BTreeSet<Place>>;

#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) config: Config,
    pub(crate) notes: Notes,
}

/// A listener or a pool, with notes by the paths in it: `backend.1`, and nothing for all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted<T> {
    pub(crate) is: T,
    pub(crate) notes: Notes,
}

impl<T> Noted<T> {
    pub(crate) fn note(&mut self, path: impl Into<String>, place: Place) {
        self.notes.entry(path.into()).or_default().insert(place);
    }
}

impl Noted<Pool> {
    /// Makes a change from a line of the source, unless it would be a mistake: then nothing changes, and that is told.
    pub(crate) fn set(&mut self, path: &str, place: Place, change: impl FnOnce(&mut Pool)) -> Result<(), String> {
        let mut changed = self.is.clone();
        change(&mut changed);
        sound(check::pool(&self.is), check::pool(&changed))?;
        self.is = changed;
        self.note(path, place);
        Ok(())
    }
}

impl Noted<Listener> {
    /// As of a pool. Whether the pools are there that it leads to is not looked at.
    pub(crate) fn set(&mut self, path: &str, place: Place, change: impl FnOnce(&mut Listener)) -> Result<(), String> {
        let mut changed = self.is.clone();
        change(&mut changed);
        let judge =
            |listener: &Listener| check::config(&Config { listeners: vec![listener.clone()], ..Config::default() });
        sound(judge(&self.is), judge(&changed))?;
        self.is = changed;
        self.note(path, place);
        Ok(())
    }
}

/// That a change brings no problem that was not there.
fn sound(before: Vec<Problem>, after: Vec<Problem>) -> Result<(), String> {
    let is_new = |problem: &&Problem| !before.contains(problem) && !problem.wrong.starts_with("there is no pool");
    match after.iter().find(is_new) {
        Some(Problem { path, wrong, right }) => Err(format!("{path} {wrong}: {right}")),
        None => Ok(()),
    }
}

impl Draft {
    pub(crate) fn add_listener(&mut self, listener: Noted<Listener>) {
        self.keep(format!("listener.{}", self.config.listeners.len()), listener.notes);
        self.config.listeners.push(listener.is);
    }

    pub(crate) fn add_pool(&mut self, pool: Noted<Pool>) {
        self.keep(format!("pool.{}", self.config.pools.len()), pool.notes);
        self.config.pools.push(pool.is);
    }

    fn keep(&mut self, root: String, notes: Notes) {
        for (path, places) in notes {
            let path = if path.is_empty() { root.clone() } else { format!("{root}.{path}") };
            self.notes.entry(path).or_default().extend(places);
        }
    }
}

/// Names that are taken, so that each is given once.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// A name of ours as close to `wanted` as can be, which nobody has.
    pub(crate) fn give(&mut self, wanted: &str) -> String {
        // Room for a number behind it.
        let plain = |sign: char| if sign.is_ascii_alphanumeric() || "-_.".contains(sign) { sign } else { '-' };
        let base: String = wanted.chars().map(plain).take(MAX_NAME - 8).collect();
        let base = if is_name(&base) { base } else { "unnamed".to_owned() };
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name));
        let name = free.unwrap_or(base);
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once_and_are_names() {
        let mut names = Names::default();
        for (wanted, given) in
            [("web", "web"), ("web", "web-2"), ("a:80", "a-80"), ("", "unnamed"), ("..", "unnamed-2"), ("é", "-")]
        {
            assert_eq!(names.give(wanted), given);
        }
        assert!(is_name(&names.give(&"x".repeat(500))));
    }
}
