//! How the most careless backend would read what it is sent: whatever some server out there has been caught at, all at
//! once. Where it reads the same as the strict ones do, nothing was left to be read in two ways.

/// A request, and how many bytes it took.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub len: usize,
}

/// The first request in these bytes; `None` where it is not whole.
pub fn request(bytes: &[u8]) -> Option<Request> {
    let start = bytes.iter().position(|byte| !is_blank(*byte))?;
    let (first, mut at) = line(bytes, start)?;
    let mut words = first.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
    let word = |word: Option<&[u8]>| String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
    let (method, target) = (word(words.next()), word(words.next()));
    let (mut length, mut chunked) = (0, false);
    loop {
        let (field, next) = line(bytes, at)?;
        at = next;
        if trim(field).is_empty() {
            break;
        }
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':').unwrap_or(field.len()));
        match text(trim(name)).replace('_', "-").as_str() {
            "content-length" => length = number(value.get(1..).unwrap_or_default(), 10),
            "transfer-encoding" => chunked |= text(value).contains("chunked"),
            _ => {}
        }
    }
    let (body, len) = if chunked { chunks(bytes, at)? } else { (bytes.get(at..at + length)?.to_vec(), at + length) };
    Some(Request { method, target, body, len })
}

/// Up to the next end of a line, whatever ends it, and the place behind that.
fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    // What else belongs to the end is not known before it has come.
    let behind = if rest[end] == b'\r' { rest.get(end + 1)? } else { &b'x' };
    Some((&rest[..end], at + end + 1 + usize::from(*behind == b'\n')))
}

fn chunks(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let (size, next) = line(bytes, at)?;
        at = next;
        match number(size, 16) {
            0 => break,
            size => {
                body.extend_from_slice(bytes.get(at..at + size)?);
                at = line(bytes, at + size)?.1;
            }
        }
    }
    loop {
        let (trailer, next) = line(bytes, at)?;
        at = next;
        if trim(trailer).is_empty() {
            return Some((body, at));
        }
    }
}

/// The digits at the front, behind whatever stands before them.
fn number(text: &[u8], radix: u32) -> usize {
    let text: String = text.iter().map(|byte| char::from(*byte)).collect();
    let digits = text.trim_start_matches(|c: char| !c.is_digit(radix));
    let digits = digits.split(|c: char| !c.is_digit(radix)).next().unwrap_or_default();
    usize::from_str_radix(digits, radix).unwrap_or(0)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_ascii_lowercase()
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, 0x7f | 0x85 | 0xa0)
}
