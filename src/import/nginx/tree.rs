//! Directives of nginx's configuration: words, quotes, blocks, comments, and files that are included.

use crate::import::report::{Ledger, Place, Source, Unreadable, Verdict};
use std::{cell::Cell, iter::Peekable};

#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) words: Vec<String>,
    /// Where it begins.
    pub(super) place: Place,
    /// The line of the `;` or the `{` that ends its words.
    pub(super) last: usize,
    /// The line of the `}`, or `last`.
    pub(super) end: usize,
    pub(super) block: Vec<Directive>,
    pub(super) is_block: bool,
    /// Whether something was said of it: several may stand on one line.
    said: Cell<bool>,
}

impl Directive {
    /// An `http` that is written nowhere, around what stands by itself.
    pub(super) fn http(block: Vec<Self>) -> Self {
        let (words, place) = (vec!["http".to_owned()], Place { file: 0, line: 1 });
        Self { words, place, last: 1, end: 1, block, is_block: true, said: Cell::default() }
    }

    pub(super) fn is_said(&self) -> bool {
        self.said.get()
    }

    pub(super) fn name(&self) -> &str {
        &self.words[0]
    }

    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// All in its block of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Directive> {
        self.block.iter().filter(move |each| each.name() == name)
    }

    /// The last in its block of this name, which counts.
    pub(super) fn find(&self, name: &str) -> Option<&Directive> {
        self.block.iter().rfind(|each| each.name() == name)
    }
}

/// What becomes of a directive; of a block only its first line and its last.
pub(super) fn say(ledger: &mut Ledger, directive: &Directive, verdict: Verdict) {
    let Directive { place, last, end, .. } = directive;
    directive.said.set(true);
    ledger.block(*place, *last, verdict);
    ledger.follow(Place { line: *end, ..*place }, *place);
}

/// The same for all that is in it.
pub(super) fn say_of_all(ledger: &mut Ledger, directive: &Directive, verdict: &Verdict) {
    ledger.block(directive.place, directive.end, verdict.clone());
    cover(ledger, directive, directive.place.file, verdict);
}

/// Nothing is left to say of what is in a block; what was included there stands in other files than the block.
fn cover(ledger: &mut Ledger, directive: &Directive, file: usize, verdict: &Verdict) {
    directive.said.set(true);
    for inner in &directive.block {
        if inner.place.file != file {
            ledger.block(inner.place, inner.end, verdict.clone());
        }
        cover(ledger, inner, inner.place.file, verdict);
    }
}

/// Files that a pattern of `include` leads to.
pub(crate) type Include<'i> = &'i dyn Fn(&str) -> Result<Vec<Source>, String>;

/// The deepest that blocks and files may lie in one another.
const DEEPEST: usize = 40;
/// The most files; what includes itself ends here.
const MOST_FILES: usize = 1_000;

pub(super) fn read(ledger: &mut Ledger, include: Include<'_>) -> Result<Vec<Directive>, Unreadable> {
    let mut all = Vec::new();
    for file in 0..ledger.sources().len() {
        all.extend(read_file(ledger, file, include, 0)?);
    }
    Ok(all)
}

fn read_file(
    ledger: &mut Ledger,
    file: usize,
    include: Include<'_>,
    depth: usize,
) -> Result<Vec<Directive>, Unreadable> {
    let text = ledger.sources()[file].text.clone();
    let tokens = tokens(&text, file)?;
    // What stands in a quote may look empty, and is no line that says something then.
    let lines: Vec<_> = text.lines().collect();
    let says = |line: &usize| {
        lines.get(line - 1).is_some_and(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    for token in &tokens {
        (token.line..=token.last).filter(says).for_each(|line| ledger.says(Place { file, line }));
    }
    let mut tokens = tokens.into_iter().peekable();
    let directives = block(ledger, &mut tokens, file, include, depth, None)?;
    Ok(directives)
}

/// Directives up to the end of the block that was begun at `begun`, or of the file.
fn block(
    ledger: &mut Ledger,
    tokens: &mut Peekable<std::vec::IntoIter<Token>>,
    file: usize,
    include: Include<'_>,
    depth: usize,
    begun: Option<usize>,
) -> Result<Vec<Directive>, Unreadable> {
    let (mut found, mut words, mut first) = (Vec::new(), Vec::new(), None);
    let at = |line| Place { file, line };
    if depth > DEEPEST {
        return Err(Unreadable::at(at(begun.unwrap_or(1)), "lies too deep"));
    }
    loop {
        if begun.is_some() && words.is_empty() && tokens.peek().is_some_and(|next| matches!(next.is, Is::Close)) {
            return Ok(found);
        }
        let Some(token) = tokens.next() else { break };
        let line = *first.get_or_insert(token.line);
        match token.is {
            Is::Word(word) => {
                words.push(word);
                continue;
            }
            Is::End if words.is_empty() => return Err(Unreadable::at(at(token.line), "unexpected `;`")),
            Is::Open if words.is_empty() => return Err(Unreadable::at(at(token.line), "unexpected `{`")),
            Is::End => {
                let made = Directive {
                    words: std::mem::take(&mut words),
                    place: at(line),
                    last: token.line,
                    end: token.line,
                    block: Vec::new(),
                    is_block: false,
                    said: Cell::default(),
                };
                match made.name() {
                    "include" => found.extend(included(ledger, &made, include, depth)?),
                    _ => found.push(made),
                }
            }
            Is::Open => {
                let inner = block(ledger, tokens, file, include, depth + 1, Some(token.line))?;
                let end = tokens.next().map_or(token.line, |close| close.line);
                let words = std::mem::take(&mut words);
                let (place, last, said) = (at(line), token.line, Cell::default());
                found.push(Directive { words, place, last, end, block: inner, is_block: true, said });
            }
            Is::Close if !words.is_empty() => {
                return Err(Unreadable::at(at(token.line), "a `;` is missing before this `}`"));
            }
            Is::Close => return Err(Unreadable::at(at(token.line), "unexpected `}`")),
        }
        first = None;
    }
    match (begun, first) {
        (_, Some(line)) => Err(Unreadable::at(at(line), "ends without a `;`")),
        (Some(line), None) => Err(Unreadable::at(at(line), "this block has no end")),
        (None, None) => Ok(found),
    }
}

fn included(
    ledger: &mut Ledger,
    directive: &Directive,
    include: Include<'_>,
    depth: usize,
) -> Result<Vec<Directive>, Unreadable> {
    let pattern = directive.word(1);
    let sources = match include(pattern) {
        Ok(_) if ledger.sources().len() > MOST_FILES => {
            return Err(Unreadable::at(directive.place, "too many files are included"));
        }
        Ok(sources) => sources,
        Err(why) => {
            say(ledger, directive, Verdict::not_taken(why));
            return Ok(Vec::new());
        }
    };
    say(ledger, directive, Verdict::taken("what is in those files"));
    let mut found = Vec::new();
    for source in sources {
        let known = ledger.sources().iter().position(|known| known.name == source.name);
        let file = known.unwrap_or_else(|| ledger.add_source(source));
        found.extend(read_file(ledger, file, include, depth + 1)?);
    }
    Ok(found)
}

#[derive(Debug)]
struct Token {
    line: usize,
    /// Where it ends: a quote may have several lines.
    last: usize,
    is: Is,
}

#[derive(Debug)]
enum Is {
    Word(String),
    End,
    Open,
    Close,
}

fn tokens(text: &str, file: usize) -> Result<Vec<Token>, Unreadable> {
    let (mut found, mut line): (Vec<Token>, usize) = (Vec::new(), 1);
    let mut signs = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(sign) = signs.next() {
        let begun = line;
        let is = match sign {
            '\n' => {
                line += 1;
                continue;
            }
            '\0' => return Err(Unreadable::at(Place { file, line }, "has a zero in it, which no configuration has")),
            _ if sign.is_whitespace() => continue,
            '#' => {
                while signs.peek().is_some_and(|sign| *sign != '\n') {
                    signs.next();
                }
                continue;
            }
            ';' => Is::End,
            '}' => Is::Close,
            '{' => {
                let lua =
                    matches!(found.last(), Some(Token { is: Is::Word(word), .. }) if word.ends_with("_by_lua_block"));
                found.push(Token { line, last: line, is: Is::Open });
                if lua {
                    line = past_code(&mut signs, line);
                    // A word in its place keeps the lines of the code in the block.
                    found.push(Token { line: begun, last: line, is: Is::Word("code".to_owned()) });
                    found.push(Token { line, last: line, is: Is::End });
                    found.push(Token { line, last: line, is: Is::Close });
                }
                continue;
            }
            '"' | '\'' => Is::Word(quoted(&mut signs, sign, &mut line).ok_or_else(|| {
                Unreadable::at(Place { file, line: begun }, format!("a quote that begins with {sign} has no end"))
            })?),
            _ => Is::Word(bare(&mut signs, sign)),
        };
        found.push(Token { line: begun, last: line, is });
    }
    Ok(found)
}

type Signs<'t> = Peekable<std::str::Chars<'t>>;

fn quoted(signs: &mut Signs<'_>, quote: char, line: &mut usize) -> Option<String> {
    let mut word = String::new();
    loop {
        let sign = signs.next()?;
        *line += usize::from(sign == '\n');
        match sign {
            '\\' => word.push(escaped(signs.next()?)),
            sign if sign == quote => return Some(word),
            sign => word.push(sign),
        }
    }
}

fn escaped(sign: char) -> char {
    match sign {
        't' => '\t',
        'r' => '\r',
        'n' => '\n',
        sign => sign,
    }
}

/// A word without quotes: `${name}` is a part of it, and a backslash in a pattern stays.
fn bare(signs: &mut Signs<'_>, first: char) -> String {
    let mut word = String::from(first);
    if first == '\\' {
        word.extend(signs.next_if(|sign| *sign != '\n'));
    }
    while let Some(sign) = signs.next_if(|sign| !sign.is_whitespace() && !matches!(sign, ';' | '{' | '}')) {
        word.push(sign);
        if sign == '\\' {
            word.extend(signs.next_if(|sign| *sign != '\n'));
        }
        if sign == '$' && signs.peek() == Some(&'{') {
            while let Some(sign) = signs.next_if(|sign| *sign != '}' && *sign != '\n') {
                word.push(sign);
            }
            word.extend(signs.next_if_eq(&'}'));
        }
    }
    word
}

/// Skips code up to the brace that ends it. Returns the line of that.
fn past_code(signs: &mut Signs<'_>, mut line: usize) -> usize {
    let mut depth = 1usize;
    for sign in signs.by_ref() {
        match sign {
            '\n' => line += 1,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    line
}
