//! Words of HAProxy's configuration: quotes, backslashes, comments, variables of the environment.

use crate::import::report::{Place, Unreadable};
use std::collections::BTreeMap;

/// A line that says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    /// Variables in it that are not set.
    pub(super) unset: Vec<String>,
}

/// Variables as they are set where HAProxy runs.
pub(super) type Variables = BTreeMap<String, String>;

/// `None` where the line is empty or a comment.
pub(super) fn line(text: &str, place: Place, variables: &Variables) -> Result<Option<Line>, Unreadable> {
    let mut lexer = Lexer { rest: text.chars().collect(), at: 0, line: Line::default(), word: None };
    while let Some(sign) = lexer.next() {
        match sign {
            ' ' | '\t' | '\r' => lexer.end_word(),
            '#' => break,
            '\\' => lexer.escaped(true),
            '\'' => lexer.strong().map_err(|why| Unreadable::at(place, why))?,
            '"' => lexer.weak(variables).map_err(|why| Unreadable::at(place, why))?,
            '\0' => return Err(Unreadable::at(place, "has a zero in it, which no configuration has")),
            sign => lexer.push(sign),
        }
    }
    lexer.end_word();
    Ok((!lexer.line.words.is_empty()).then_some(lexer.line))
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    line: Line,
    /// `Some` as soon as one has begun, be it empty.
    word: Option<String>,
}

impl Lexer {
    fn next(&mut self) -> Option<char> {
        let sign = self.peek()?;
        self.at += 1;
        Some(sign)
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn push(&mut self, sign: char) {
        self.word.get_or_insert_default().push(sign);
    }

    fn end_word(&mut self) {
        self.line.words.extend(self.word.take());
    }

    /// What stands behind a backslash; letters are signs that can't be typed where `letters`.
    fn escaped(&mut self, letters: bool) {
        match self.next() {
            Some('n') if letters => self.push('\n'),
            Some('r') if letters => self.push('\r'),
            Some('t') if letters => self.push('\t'),
            Some('x') if letters => self.hexadecimal(),
            Some(sign @ (' ' | '#' | '\\' | '\'' | '"' | '$')) => self.push(sign),
            Some(sign) => {
                self.push('\\');
                self.push(sign);
            }
            None => self.push('\\'),
        }
    }

    fn hexadecimal(&mut self) {
        let digits: String = self.rest.iter().skip(self.at).take(2).collect();
        match u8::from_str_radix(&digits, 16) {
            Ok(byte) if digits.len() == 2 => {
                self.at += 2;
                self.push(char::from(byte));
            }
            Ok(_) | Err(_) => self.word.get_or_insert_default().push_str("\\x"),
        }
    }

    fn strong(&mut self) -> Result<(), &'static str> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(sign) => self.push(sign),
                None => return Err("a quote that begins with ' has no end"),
            }
        }
    }

    fn weak(&mut self, variables: &Variables) -> Result<(), &'static str> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => self.escaped(true),
                Some('$') => self.variable(variables)?,
                Some(sign) => self.push(sign),
                None => return Err("a quote that begins with \" has no end"),
            }
        }
    }

    /// `$NAME`, `${NAME}` or `${NAME-otherwise}`.
    fn variable(&mut self, variables: &Variables) -> Result<(), &'static str> {
        let braced = self.peek() == Some('{');
        self.at += usize::from(braced);
        let mut name = String::new();
        while let Some(sign) = self.peek().filter(|sign| sign.is_ascii_alphanumeric() || "_.".contains(*sign)) {
            name.push(sign);
            self.at += 1;
        }
        let mut otherwise = None;
        if braced {
            let mut tail = String::new();
            loop {
                match self.next() {
                    Some('}') => break,
                    Some(sign) => tail.push(sign),
                    None => return Err("a variable that begins with ${ has no end"),
                }
            }
            otherwise = tail.strip_prefix('-').map(str::to_owned);
        }
        match variables.get(&name).or(otherwise.as_ref()) {
            Some(value) => self.word.get_or_insert_default().push_str(value),
            None => self.line.unset.push(name),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Line>, Unreadable> {
        let variables = [("PORT".to_owned(), "80".to_owned())].into();
        line(text, Place { file: 0, line: 1 }, &variables)
    }

    #[test]
    fn words_are_read_as_haproxy_reads_them() {
        for (text, words) in [
            ("bind :80  # all", vec!["bind", ":80"]),
            ("\tserver a\\ b 'c \\ d' \"e \\\" f\"", vec!["server", "a b", "c \\ d", "e \" f"]),
            ("a\\#b c#d e", vec!["a#b", "c"]),
            ("log-format ''", vec!["log-format", ""]),
            ("bind \":${PORT}\" \":$PORT/x\" ${PORT} \"${NONE-7}\"", vec!["bind", ":80", ":80/x", "${PORT}", "7"]),
            ("a'b'\"c\"d", vec!["abcd"]),
            ("x \\x41\\n \\d+", vec!["x", "A\n", "\\d+"]),
            ("x\r", vec!["x"]),
        ] {
            assert_eq!(read(text).unwrap().unwrap().words, words, "{text}");
        }
        for text in ["", "  ", "# x", "\t# 'x"] {
            assert_eq!(read(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_told_and_what_has_no_end_is_an_error() {
        assert_eq!(read("bind \"$A:${B}\"").unwrap().unwrap().unset, ["A", "B"]);
        for text in ["a 'b", "a \"b", "a \"${b", "a\0"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
