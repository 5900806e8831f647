//! What became of each line of the source: taken, not needed here, or not taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// A file of the source.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// As it is shown.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A line of one of the files, both counted from where they count: files from 0, lines from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) line: usize,
}

/// Why a source is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) place: Option<Place>,
    pub(crate) why: String,
}

impl Unreadable {
    pub(crate) fn at(place: Place, why: impl Into<String>) -> Self {
        Self { place: Some(place), why: why.into() }
    }
}

/// What became of a statement, or of a part of it. The worst that is said of a line is what became of the line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Why nothing here stands for it, and nothing is missing.
    NotNeeded(String),
    /// What stands for it.
    Taken(String),
    /// What stands for it, and how that differs.
    Otherwise(String, String),
    /// Why nothing stands for it, and what to do.
    NotTaken(String),
}

impl Verdict {
    pub(crate) fn taken(what: impl Into<String>) -> Self {
        Self::Taken(what.into())
    }

    pub(crate) fn otherwise(what: impl Into<String>, but: impl Into<String>) -> Self {
        Self::Otherwise(what.into(), but.into())
    }

    pub(crate) fn not_needed(why: impl Into<String>) -> Self {
        Self::NotNeeded(why.into())
    }

    pub(crate) fn not_taken(why: impl Into<String>) -> Self {
        Self::NotTaken(why.into())
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::NotNeeded(_) => Outcome::NotNeeded,
            Self::Taken(_) | Self::Otherwise(..) => Outcome::Taken,
            Self::NotTaken(_) => Outcome::NotTaken,
        }
    }
}

/// What becomes of a whole line, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    NotNeeded,
    Taken,
    NotTaken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Remark {
    /// The last line that it is about.
    last: usize,
    /// What of the statement it is about, where that is not all of it.
    part: Option<String>,
    verdict: Verdict,
}

/// All that was said of all lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sources: Vec<Source>,
    /// The lines that say something.
    lines: BTreeSet<Place>,
    remarks: BTreeMap<Place, Vec<Remark>>,
    /// The ends of blocks, which fare as their beginnings.
    follows: BTreeMap<Place, Place>,
}

/// What is shown of a statement, in characters.
const SHOWN: usize = 72;
/// Words behind which a secret stands.
const SECRETS: [&str; 5] = ["dynamic-cookie-key", "auth", "password", "insecure-password", "key"];

impl Ledger {
    pub(crate) fn new(sources: &[Source]) -> Self {
        Self { sources: sources.to_vec(), ..Self::default() }
    }

    /// Another file, found on the way. Returns its number.
    pub(crate) fn add_source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// That a line says something: it is neither empty nor a comment.
    pub(crate) fn says(&mut self, place: Place) {
        self.lines.insert(place);
    }

    pub(crate) fn remark(&mut self, place: Place, verdict: Verdict) {
        self.add(place, place.line, None, verdict);
    }

    /// About a part of the statement alone.
    pub(crate) fn part(&mut self, place: Place, part: impl Into<String>, verdict: Verdict) {
        self.add(place, place.line, Some(part.into()), verdict);
    }

    /// About all lines from `place` to `last`.
    pub(crate) fn block(&mut self, place: Place, last: usize, verdict: Verdict) {
        self.add(place, last, None, verdict);
    }

    /// That a line fares as another one.
    pub(crate) fn follow(&mut self, place: Place, other: Place) {
        if place != other {
            self.follows.entry(place).or_insert(other);
        }
    }

    fn add(&mut self, place: Place, last: usize, part: Option<String>, verdict: Verdict) {
        let remark = Remark { last, part, verdict };
        let here = self.remarks.entry(place).or_default();
        // Settings that several proxies share are looked at for each.
        if !here.contains(&remark) {
            here.push(remark);
        }
    }

    /// Whether something was said of this very line.
    pub(crate) fn knows(&self, place: Place) -> bool {
        self.remarks.contains_key(&place)
    }

    /// What became of each line that says something. One that nothing was said of is not taken: nothing is dropped in silence.
    pub(crate) fn outcomes(&self) -> BTreeMap<Place, Outcome> {
        let mut worst: BTreeMap<Place, Outcome> = BTreeMap::new();
        for (place, remarks) in &self.remarks {
            for remark in remarks {
                let covered = self.lines.range(*place..=Place { line: remark.last, ..*place });
                for line in covered {
                    let outcome = remark.verdict.outcome();
                    worst.entry(*line).and_modify(|known| *known = outcome.max(*known)).or_insert(outcome);
                }
            }
        }
        for (place, other) in &self.follows {
            if let Some(outcome) = worst.get(other).copied().filter(|_| self.lines.contains(place)) {
                worst.entry(*place).or_insert(outcome);
            }
        }
        self.lines.iter().map(|line| (*line, worst.get(line).copied().unwrap_or(Outcome::NotTaken))).collect()
    }

    /// The report: what was not taken and what is otherwise here, with `verbose` all, and how many lines fared how.
    pub(crate) fn report(&self, verbose: bool) -> String {
        let mut report = String::new();
        let outcomes = self.outcomes();
        let places: BTreeSet<_> = self.remarks.keys().chain(outcomes.keys()).copied().collect();
        for place in places {
            let remarks = self.remarks.get(&place).map_or(&[][..], Vec::as_slice);
            for remark in remarks {
                self.show(&mut report, place, remark, verbose);
            }
            if remarks.is_empty() && outcomes[&place] == Outcome::NotTaken && !self.is_covered(place) {
                let verdict = Verdict::not_taken("nothing is known of it here");
                self.show(&mut report, place, &Remark { last: place.line, part: None, verdict }, verbose);
            }
        }
        let count = |wanted| outcomes.values().filter(|outcome| **outcome == wanted).count();
        let not_taken = count(Outcome::NotTaken);
        let noun = if not_taken == 1 { "line" } else { "lines" };
        let (taken, not_needed) = (count(Outcome::Taken), count(Outcome::NotNeeded));
        // A string takes whatever is written to it.
        let _ = writeln!(report, "taken {taken}, not needed {not_needed}, not taken {not_taken} {noun}");
        report
    }

    pub(crate) fn not_taken(&self) -> usize {
        self.outcomes().values().filter(|outcome| **outcome == Outcome::NotTaken).count()
    }

    /// Whether a block that begins before speaks for the line.
    fn is_covered(&self, place: Place) -> bool {
        let before = self.remarks.range(Place { line: 0, ..place }..place);
        let in_block = before.flat_map(|(_, remarks)| remarks).any(|remark| remark.last >= place.line);
        in_block || self.follows.contains_key(&place)
    }

    /// Whether the report says of a line that is not taken why.
    #[cfg(test)]
    pub(crate) fn is_told(&self, place: Place) -> bool {
        let own = self
            .remarks
            .get(&place)
            .is_some_and(|remarks| remarks.iter().any(|remark| remark.verdict.outcome() == Outcome::NotTaken));
        own || self.is_covered(place) || !self.remarks.contains_key(&place)
    }

    fn show(&self, report: &mut String, place: Place, remark: &Remark, verbose: bool) {
        let told = match &remark.verdict {
            Verdict::NotTaken(why) => format!("not taken: {why}"),
            Verdict::Otherwise(what, but) => format!("taken as {what}, but {but}"),
            Verdict::Taken(what) if verbose => format!("taken as {what}"),
            Verdict::NotNeeded(why) if verbose => format!("not needed: {why}"),
            Verdict::Taken(_) | Verdict::NotNeeded(_) => return,
        };
        let lines = match remark.last {
            last if last > place.line => format!("{}-{last}", place.line),
            _ => place.line.to_string(),
        };
        let part = remark.part.as_ref().map_or(String::new(), |part| format!("`{}`: ", shortened(part)));
        let name = &self.sources[place.file].name;
        let _ = writeln!(report, "{name}:{lines}: {}: {part}{told}", self.statement(place));
    }

    /// The line as it may be shown: short, and without secrets.
    fn statement(&self, place: Place) -> String {
        let line = self.sources[place.file].text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            words.push(word);
            if words.len() < 3 && SECRETS.contains(&word) {
                words.push("…");
                break;
            }
        }
        shortened(&words.join(" "))
    }

    /// Places for people: `haproxy.cfg:3, 7-9`.
    pub(crate) fn named(&self, places: &BTreeSet<Place>) -> String {
        let mut files: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for place in places {
            let ranges = files.entry(place.file).or_default();
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == place.line => *last = place.line,
                _ => ranges.push((place.line, place.line)),
            }
        }
        let shown = files.into_iter().map(|(file, ranges)| {
            let show = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
            let ranges: Vec<_> = ranges.into_iter().map(show).collect();
            format!("{}:{}", self.sources[file].name, ranges.join(", "))
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

fn shortened(text: &str) -> String {
    // What a terminal would act on is none of its business.
    let plain = text.chars().map(|sign| if sign.is_control() { '?' } else { sign });
    let mut short: String = plain.clone().take(SHOWN).collect();
    if plain.count() > SHOWN {
        short.truncate(short.trim_end().len());
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize) -> Place {
        Place { file: 0, line }
    }

    fn ledger() -> Ledger {
        let text = "one\n\ntwo {\nthree\n}\ndynamic-cookie-key secret\nseven".to_owned();
        let mut ledger = Ledger::new(&[Source { name: "old".to_owned(), text }]);
        [1, 3, 4, 5, 6, 7].into_iter().for_each(|line| ledger.says(at(line)));
        ledger
    }

    #[test]
    fn the_worst_that_is_said_of_a_line_is_what_became_of_it() {
        let mut ledger = ledger();
        ledger.remark(at(1), Verdict::taken("a"));
        ledger.part(at(1), "b", Verdict::not_needed("so"));
        ledger.block(at(3), 4, Verdict::not_taken("why"));
        ledger.follow(at(5), at(3));
        ledger.remark(at(6), Verdict::not_needed("so"));
        use Outcome::{NotNeeded, NotTaken, Taken};
        let outcomes: Vec<_> = ledger.outcomes().into_iter().map(|(place, outcome)| (place.line, outcome)).collect();
        assert_eq!(outcomes, [(1, Taken), (3, NotTaken), (4, NotTaken), (5, NotTaken), (6, NotNeeded), (7, NotTaken)]);
        assert_eq!(ledger.not_taken(), 4);
        let told = "old:3-4: two {: not taken: why\nold:7: seven: not taken: nothing is known of it here\n\
                    taken 1, not needed 1, not taken 4 lines\n";
        assert_eq!(ledger.report(false), told);
        let all = ledger.report(true);
        assert!(all.contains("old:1: one: taken as a\nold:1: one: `b`: not needed: so\n"), "{all}");
        assert!(all.contains("old:6: dynamic-cookie-key …: not needed: so\n"), "{all}");
    }

    #[test]
    fn places_are_named_by_ranges() {
        let places = [at(3), at(7), at(8), at(9)].into();
        assert_eq!(ledger().named(&places), "old:3, 7-9");
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(shortened(&"x".repeat(80)).chars().count(), SHOWN + 1);
        assert_eq!(shortened("a\u{1b}b"), "a?b");
    }
}
