//! The messages of the TOML decoder, put so that somebody who writes a configuration file can act on them.

/// What a decoder's message comes down to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) wrong: String,
    pub(super) right: String,
    /// The known key that an unknown one was probably meant to be.
    pub(super) meant: Option<String>,
}

/// What is wrong, and what would be right where the parser says so.
pub(super) fn syntax(message: &str) -> (String, String) {
    match message.split_once(", expected ") {
        Some((wrong, "nothing")) => (wrong.to_owned(), "remove it".to_owned()),
        Some((wrong, "literal string")) => (wrong.to_owned(), "write it in quotes".to_owned()),
        Some((wrong, expected)) => (wrong.to_owned(), format!("expected {expected}")),
        None => (message.to_owned(), String::new()),
    }
}

/// Whether the decoder wanted one of an enum's words and met something that is no string.
pub(super) fn wants_a_word(message: &str) -> bool {
    message == "wanted string or table"
}

pub(super) fn value(message: &str) -> Value {
    for (kind, noun) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some((found, expected)) = message.strip_prefix(kind).and_then(|rest| rest.split_once("`, ")) {
            let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
            let meant = nearest(found, &known);
            let hint = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
            let list: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            return Value {
                wrong: format!("unknown {noun} `{found}`"),
                right: format!("{hint}known here: {}", list.join(", ")),
                meant: meant.filter(|_| noun == "key").map(str::to_owned),
            };
        }
    }
    let (wrong, right) = match message.split_once(", expected ") {
        Some((wrong, expected)) => (found(wrong), format!("write {}", expected_words(expected))),
        None => match message.split_once(": write ") {
            Some((wrong, right)) => (wrong.to_owned(), format!("write {right}")),
            None => (message.to_owned(), String::new()),
        },
    };
    Value { wrong, right, meant: None }
}

/// `invalid type: integer `5`` → `is the integer `5``.
fn found(wrong: &str) -> String {
    let what = wrong.split_once(": ").map_or(wrong, |(_, what)| what);
    match what {
        "map" => "is a table".to_owned(),
        "sequence" => "is an array".to_owned(),
        what => format!("is the {what}"),
    }
}

/// What Rust calls a type, as TOML calls it.
fn expected_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, 0 or above",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a string in quotes",
        "a sequence" => "a list: a [[table]] in double brackets for each, or values in [ ]",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

/// The known word closest to `word`, if it is close enough to be a slip of the fingers.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = (word.len() / 3).max(1);
    let distances = known.iter().map(|each| (strsim::osa_distance(word, each), *each));
    distances.filter(|(distance, _)| *distance <= near).min().map(|(_, each)| each)
}
