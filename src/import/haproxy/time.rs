//! Times as HAProxy writes them: a number with `us`, `ms`, `s`, `m`, `h` or `d`.

use control::spec::Span;

const UNITS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// A time above zero; `unit` is that of a number alone. What is shorter than a millisecond is one.
pub(super) fn read(text: &str, unit: &str) -> Result<Span, String> {
    let digits = text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len());
    let (number, written) = text.split_at(digits);
    let unit = if written.is_empty() { unit } else { written };
    let micros = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, micros)| *micros);
    let (Ok(number), Some(micros)) = (number.parse::<u64>(), micros) else {
        return Err(format!("`{text}` is no time"));
    };
    match number.checked_mul(micros) {
        Some(0) => Err("0 sets no limit there, and here each time has one: write the longest that you want".to_owned()),
        Some(micros) => Ok(Span::from_millis(micros.div_ceil(1_000))),
        None => Err(format!("`{text}` is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, unit, millis) in [
            ("5000", "ms", 5_000),
            ("30", "s", 30_000),
            ("10s", "ms", 10_000),
            ("500us", "ms", 1),
            ("2h", "s", 7_200_000),
        ] {
            assert_eq!(read(text, unit), Ok(Span::from_millis(millis)), "{text}");
        }
        for text in ["", "x", "5y", "0", "0s", "-1", "99999999999999999999", "9999999999999999d", "5 s"] {
            assert!(read(text, "ms").is_err(), "{text}");
        }
    }
}
