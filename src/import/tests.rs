use super::*;
use report::{Outcome, Place};

const HAPROXY: [&str; 7] = [
    include_str!("../../tests/import/haproxy/shop.cfg"),
    include_str!("../../tests/import/haproxy/tls.cfg"),
    include_str!("../../tests/import/haproxy/tenants.cfg"),
    include_str!("../../tests/import/haproxy/sni.cfg"),
    include_str!("../../tests/import/haproxy/sockets.cfg"),
    include_str!("../../tests/import/haproxy/classic.cfg"),
    include_str!("../../tests/import/haproxy/estate.cfg"),
];

const NGINX: [&str; 6] = [
    include_str!("../../tests/import/nginx/shop.conf"),
    include_str!("../../tests/import/nginx/tls.conf"),
    include_str!("../../tests/import/nginx/tenants.conf"),
    include_str!("../../tests/import/nginx/sni.conf"),
    include_str!("../../tests/import/nginx/sockets.conf"),
    include_str!("../../tests/import/nginx/estate.conf"),
];

pub(super) fn sources(text: &str) -> Vec<Source> {
    vec![Source { name: "old".to_owned(), text: text.to_owned() }]
}

fn all() -> impl Iterator<Item = (Kind, &'static str)> {
    HAPROXY.into_iter().map(|text| (Kind::Haproxy, text)).chain(NGINX.into_iter().map(|text| (Kind::Nginx, text)))
}

/// A small generator, so that a failure comes again: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(count.max(1)).unwrap()).unwrap()
    }
}

const STRANGE: [&str; 24] = [
    "\"",
    "'",
    "\\",
    "{",
    "}",
    ";",
    "#",
    "\0",
    "é",
    "0",
    "-1",
    "99999999999999999999",
    "if",
    "!",
    "||",
    "unless",
    "no",
    "%[x]",
    "\"${X}\"",
    "../..",
    "\u{7f}",
    "if { path_beg /x }",
    "cookie",
    "*",
];

/// The text with a few slips in it.
fn spoilt(text: &str, chance: &mut Chance) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=chance.below(6) {
        let (at, other) = (chance.below(lines.len()), chance.below(lines.len()));
        let mut words: Vec<String> = lines[at].split(' ').map(str::to_owned).collect();
        let word = chance.below(words.len());
        match chance.below(9) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            3 => {
                words.insert(word, STRANGE[chance.below(STRANGE.len())].to_owned());
                lines[at] = words.join(" ");
            }
            4 => {
                words.remove(word);
                lines[at] = words.join(" ");
            }
            5 => {
                let from: Vec<_> = lines[other].split_whitespace().map(str::to_owned).collect();
                words[word] = from.get(chance.below(from.len())).cloned().unwrap_or_default();
                lines[at] = words.join(" ");
            }
            6 => words[word] = words[word].chars().rev().collect(),
            7 => {
                words.truncate(word);
                lines[at] = words.join(" ");
            }
            _ => {
                let middle = words[word].chars().count() / 2;
                words[word] =
                    words[word].chars().take(middle).chain(STRANGE[chance.below(STRANGE.len())].chars()).collect();
                lines[at] = words.join(" ");
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}

/// That what was made checks, and that each line which says something has fared in one way.
fn sound(kind: Kind, text: &str) -> Option<Made> {
    let made = convert(kind, &sources(text)).ok()?;
    judged(&made).unwrap_or_else(|failure| panic!("{failure}\n{text}\n----\n{}", made.text));
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let lines = text.lines().enumerate().filter(|(_, line)| says(line)).map(|(at, _)| Place { file: 0, line: at + 1 });
    let outcomes = made.ledger.outcomes();
    assert_eq!(outcomes.keys().copied().collect::<Vec<_>>(), lines.collect::<Vec<_>>(), "{text}");
    let report = made.ledger.report(true);
    let summary = report.lines().last().unwrap();
    let numbers = summary.split(|sign: char| !sign.is_ascii_digit()).filter_map(|number| number.parse::<usize>().ok());
    assert_eq!(numbers.sum::<usize>(), outcomes.len(), "{summary}");
    for (place, outcome) in outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::NotTaken) {
        assert!(made.ledger.is_told(*place), "{place:?} is {outcome:?} in silence\n{text}\n{report}");
    }
    Some(made)
}

#[test]
fn no_line_is_passed_over_and_what_is_made_checks() {
    for (kind, text) in all() {
        sound(kind, text).expect("it can be read");
    }
}

#[test]
fn rubbish_is_refused_or_makes_something_that_checks() {
    let mut chance = Chance(0x5eed);
    let mut read = 0;
    for _ in 0..60 {
        for (kind, text) in all() {
            read += usize::from(sound(kind, &spoilt(text, &mut chance)).is_some());
        }
    }
    assert!(read > 200, "{read}");
    for text in ["", "\0", "global", "listen", "{", "}", "defaults x from y", "frontend a\nbind", "\u{feff}global"] {
        for kind in [Kind::Haproxy, Kind::Nginx] {
            drop(sound(kind, text));
        }
    }
}
