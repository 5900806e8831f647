use super::super::text;
use super::BadChunk;

const MAX_DIGITS: usize = 16;
const MAX_EXTENSION: usize = 256;

/// Bytes of a size line with its CRLF.
pub(super) const MAX_LINE: usize = MAX_DIGITS + MAX_EXTENSION + 2;

/// A size line in parts: leading zeros, the digits that count, the extensions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SizeLine {
    pub(super) zeros: usize,
    pub(super) digits: usize,
    pub(super) extension: usize,
    pub(super) size: u64,
}

/// Parses a size line without its CRLF. A size above `i64::MAX` is refused: some readers would take it for negative.
pub(super) fn parse(line: &[u8]) -> Result<SizeLine, BadChunk> {
    let all = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at_checked(all).unwrap_or_default();
    if digits.is_empty() || all > MAX_DIGITS {
        return Err(BadChunk::Size);
    }
    let size = digits.iter().fold(0u64, |size, digit| (size << 4) | u64::from(hex(*digit)));
    if size > i64::MAX.unsigned_abs() {
        return Err(BadChunk::Size);
    }
    match extension {
        [] | [b';' | b' ' | b'\t', ..] => are_extensions(extension).ok_or(BadChunk::Extension)?,
        _ => return Err(BadChunk::Size),
    }
    let zeros = digits.iter().take(all - 1).take_while(|digit| **digit == b'0').count();
    Ok(SizeLine { zeros, digits: all - zeros, extension: extension.len(), size })
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`: nothing reads them here, but a reader behind us
/// that ends the line elsewhere must not exist for any that we take.
fn are_extensions(mut rest: &[u8]) -> Option<()> {
    while !rest.is_empty() {
        rest = text::trim_start(rest).strip_prefix(b";")?;
        rest = after_token(text::trim_start(rest))?;
        if let Some(value) = text::trim_start(rest).strip_prefix(b"=") {
            let value = text::trim_start(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted(quoted)?,
                None => after_token(value)?,
            };
        }
    }
    Some(())
}

fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().position(|byte| !text::is_token_byte(*byte)).unwrap_or(bytes.len());
    if len == 0 { None } else { bytes.get(len..) }
}

/// What follows the closing quote; the opening one is gone already.
fn after_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if text::is_text_byte(*escaped) => rest,
            [b'\\', ..] => return None,
            [plain, rest @ ..] if text::is_text_byte(*plain) => rest,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_lines() {
        for (line, zeros, digits, extension, size) in [
            ("0", 0, 1, 0, 0),
            ("000", 2, 1, 0, 0),
            ("5", 0, 1, 0, 5),
            ("aF", 0, 2, 0, 0xaf),
            ("00000000000000ff", 14, 2, 0, 0xff),
            ("7fffffffffffffff", 0, 16, 0, i64::MAX.unsigned_abs()),
            ("5;a", 0, 1, 2, 5),
            ("5;a=b;c=\"d;\\\"e\"", 0, 1, 14, 5),
            ("05 ;\ta = b ; c", 1, 1, 12, 5), // RFC 9112 §7.1.1: BWS
            ("5;a=\"\"", 0, 1, 5, 5),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(SizeLine { zeros, digits, extension, size }), "{line}");
        }
    }

    #[test]
    fn bad_size_lines() {
        use BadChunk::{Extension, Size};
        for (line, bad) in [
            ("", Size),
            (" 5", Size),
            ("+5", Size),
            ("-5", Size),
            ("0x5", Size),
            ("5h", Size),
            ("5,5", Size),
            ("5_0", Size),
            ("5\0", Size),
            ("5\r", Size),
            (";a", Size),
            ("8000000000000000", Size), // negative to a signed reader
            ("ffffffffffffffff", Size),
            ("00000000000000005", Size), // 17 digits
            ("５", Size),
            ("5 ", Extension),
            ("5\t", Extension),
            ("5 5", Extension),
            ("5;", Extension),
            ("5;;a", Extension),
            ("5;a ", Extension),
            ("5;a=", Extension),
            ("5;=b", Extension),
            ("5;a b", Extension),
            ("5;a=b c", Extension),
            ("5;a=\"b", Extension),
            ("5;a=\"b\\", Extension),
            ("5;a=\"b\\\"", Extension),
            ("5;a=\"b\"c", Extension),
            ("5;a\r;b", Extension),
            ("5;a=\"\r\"", Extension),
            ("5;a=\"\0\"", Extension),
            ("5;a=\"\\\0\"", Extension),
            ("5;\u{b}a", Extension),
            ("5;é", Extension),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(bad), "{line:?}");
        }
    }
}
