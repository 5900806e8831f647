//! Figures in words, as the dashboard tells them; a dash for what is not known.

use control::spec::Span;

pub(super) const UNKNOWN: &str = "-";

/// As in `12,345`.
pub(super) fn count(value: Option<u64>) -> String {
    let Some(value) = value else { return UNKNOWN.to_owned() };
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many in a second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is neither negative nor endless")]
pub(super) fn rate(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) if value < 0.1 => "<0.1".to_owned(),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => count(Some(value.round() as u64)),
    }
}

/// A part of a whole.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
pub(super) fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return UNKNOWN.to_owned();
    }
    let percent = part as f64 * 100.0 / of as f64;
    match percent {
        _ if part == 0 || part == of => format!("{percent:.0} %"),
        percent if percent < 0.1 => "<0.1 %".to_owned(),
        percent if percent > 99.9 => ">99.9 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

pub(super) fn millis(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(value) if value < 10.0 => format!("{value:.1} ms"),
        Some(value) if value < 1_000.0 => format!("{value:.0} ms"),
        Some(value) => format!("{:.1} s", value / 1_000.0),
    }
}

/// Milliseconds in whole seconds and up, in the two largest units.
pub(super) fn span(millis: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "centuries have fewer than 53 bits")]
    let seconds = (millis / 1_000) as f64;
    crate::ctl::progress::rounded(seconds).to_string()
}

pub(super) fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(Some(number)), if number == 1 { "" } else { "s" })
}

/// What was typed as a duration; nothing where nothing was.
pub(super) fn typed(text: &str) -> Result<Option<Span>, String> {
    if text.trim().is_empty() { Ok(None) } else { text.trim().parse().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_what_is_not_known_is_a_dash() {
        for (value, wanted) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(Some(value)), wanted);
        }
        for (value, wanted) in [(0.0, "0"), (0.04, "<0.1"), (3.25, "3.2"), (99.96, "100"), (1234.5, "1,235")] {
            assert_eq!(rate(Some(value)), wanted);
        }
        for (part, of, wanted) in [
            (0, 9, "0 %"),
            (9, 9, "100 %"),
            (1, 9_999, "<0.1 %"),
            (9_998, 9_999, ">99.9 %"),
            (1, 3, "33.3 %"),
            (0, 0, "-"),
        ] {
            assert_eq!(share(part, of), wanted);
        }
        for (value, wanted) in [(0.25, "0.2 ms"), (12.4, "12 ms"), (2_340.0, "2.3 s")] {
            assert_eq!(millis(Some(value)), wanted);
        }
        assert_eq!((count(None), rate(None), millis(None)), ("-".to_owned(), "-".to_owned(), "-".to_owned()));
        assert_eq!((span(65_400), span(999)), ("1m5s".to_owned(), "0s".to_owned()));
    }

    #[test]
    fn a_duration_may_be_left_out_and_must_not_be_wrong() {
        assert_eq!(typed("  ").unwrap(), None);
        assert_eq!(typed(" 30m").unwrap(), Some(Span::from_secs(1_800)));
        assert!(typed("soon").unwrap_err().contains("is not a duration"));
    }
}
