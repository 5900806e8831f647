//! The small grammar that fields are made of (RFC 9110 §5.6).

/// `tchar`: what a name or a token consists of.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::indexing_slicing, reason = "the loop stays below the table's length")]
        {
            table[byte] = matches!(byte as u8,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
                | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        }
        byte += 1;
    }
    table
};

pub fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|token| *token)
}

pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether a reader could take one name for the other: some turn `-` into `_`.
pub fn are_alike(name: &[u8], other: &[u8]) -> bool {
    let alike = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().map(alike).eq(other.iter().map(alike))
}

/// HTAB, SP, VCHAR and obs-text: no other control character, so no NUL, CR or LF.
pub fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether `bytes` may stand in a field value or a reason phrase.
pub fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_text_byte(*byte))
}

/// `bytes` without the SP and HTAB around it (OWS).
pub fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_start(bytes);
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

pub fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, trimmed, the empty ones left out. Quoted strings are not known here: fit for
/// lists of tokens only.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// A count of bytes: digits alone, at most `i64::MAX`, so that no peer with a signed counter reads another number.
pub fn length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

/// Appends `number` in decimal.
pub fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_text_are_the_grammars_bytes() {
        let specials = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            assert_eq!(is_token_byte(byte), byte.is_ascii_alphanumeric() || specials.contains(&byte), "{byte:#x}");
            assert_eq!(is_text_byte(byte), byte == 9 || (32..127).contains(&byte) || byte >= 128, "{byte:#x}");
        }
        assert!(!is_token(b"") && is_text(b""));
    }

    #[test]
    fn lists_are_trimmed_and_empty_elements_skipped() {
        let elements = |value: &'static [u8]| list(value).collect::<Vec<_>>();
        assert_eq!(elements(b" close ,\tTE,, x "), [&b"close"[..], b"TE", b"x"]);
        assert!(elements(b" , ,\t,").is_empty());
        assert_eq!(trim(b" \t a b \t"), b"a b");
    }

    #[test]
    fn lengths() {
        for (digits, expected) in [
            (&b"0"[..], Some(0)),
            (b"0000000000000000000000000042", Some(42)),
            (b"9223372036854775807", Some(i64::MAX.unsigned_abs())),
            (b"9223372036854775808", None),
            (b"18446744073709551616", None),
            (b"99999999999999999999999", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"1 ", None),
            (b"0x1", None),
            (b"1e3", None),
            ("٣".as_bytes(), None),
        ] {
            assert_eq!(length(digits), expected, "{}", digits.escape_ascii());
        }
    }

    #[test]
    fn decimals() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
