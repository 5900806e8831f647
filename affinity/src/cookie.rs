//! Cookies in the values of `Cookie` headers, read as RFC 6265 section 5.4 has browsers write them: pairs end at every
//! `;`, in quotes too, and the space around names and values does not count.

use memchr::{memchr, memmem};

#[cfg(test)]
mod tests;

/// A cookie's name, made ready to be looked for. Names are compared exactly, upper and lower case apart.
#[derive(Clone, Debug)]
pub struct CookieName {
    finder: memmem::Finder<'static>,
}

impl CookieName {
    /// `None` if [`is_cookie_name`] says no.
    pub fn new(name: &str) -> Option<Self> {
        is_cookie_name(name.as_bytes()).then(|| Self { finder: memmem::Finder::new(name).into_owned() })
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Every value that a header's value has for this name, in order, without the quotes around it.
    pub fn find<'h>(&self, header: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
        self.pairs(header).map(|pair| pair.value)
    }

    /// Whether [`Self::find`] finds any.
    pub fn is_in(&self, header: &[u8]) -> bool {
        self.pairs(header).next().is_some()
    }

    /// Appends to `out` what is left of a header's value without this cookie, all others byte for byte and in order.
    /// False if that is nothing, so that the header can go as well.
    pub fn without(&self, header: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut rest = 0;
        for pair in self.pairs(header) {
            append(&header[rest..pair.start], start, out);
            rest = pair.end;
        }
        append(&header[rest..], start, out);
        out.len() > start
    }

    /// Appends a header's value to `out` with what `inner` makes of each value of this cookie, all else byte for byte.
    pub fn replaced(&self, header: &[u8], inner: impl Fn(&[u8]) -> &[u8], out: &mut Vec<u8>) {
        let mut rest = 0;
        for pair in self.pairs(header) {
            let start = pair.value.as_ptr().addr() - header.as_ptr().addr();
            out.extend_from_slice(&header[rest..start]);
            out.extend_from_slice(inner(pair.value));
            rest = start + pair.value.len();
        }
        out.extend_from_slice(&header[rest..]);
    }

    // A name holds neither space nor `;` nor `=`, so that each of its pairs is one of the finder's matches, which don't
    // overlap, and every other match fails on what stands before or behind it.
    fn pairs<'h>(&self, header: &'h [u8]) -> impl Iterator<Item = Pair<'h>> {
        let len = self.as_bytes().len();
        self.finder.find_iter(header).filter_map(move |at| Pair::at(header, at, at + len))
    }
}

/// Where a pair stands: from its name to the `;` behind it.
struct Pair<'h> {
    start: usize,
    end: usize,
    value: &'h [u8],
}

impl<'h> Pair<'h> {
    /// The pair whose name is `header[start..name_end]`, if that is a whole name with a value.
    fn at(header: &'h [u8], start: usize, name_end: usize) -> Option<Self> {
        let before = header[..start].iter().rfind(|&&b| !is_space(b));
        if !matches!(before, None | Some(b';')) {
            return None;
        }
        let equals = name_end + header[name_end..].iter().position(|&b| !is_space(b))?;
        if header[equals] != b'=' {
            return None;
        }
        let end = memchr(b';', &header[equals..]).map_or(header.len(), |len| equals + len);
        let value = unquote(trim(&header[equals + 1..end], is_space));
        Some(Self { start, end, value })
    }
}

fn append(pairs: &[u8], start: usize, out: &mut Vec<u8>) {
    let pairs = trim(pairs, |b| is_space(b) || b == b';');
    if pairs.is_empty() {
        return;
    }
    if out.len() > start {
        out.extend_from_slice(b"; ");
    }
    out.extend_from_slice(pairs);
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    }
}

pub(crate) fn trim(mut bytes: &[u8], off: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && off(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && off(*last)
    {
        bytes = rest;
    }
    bytes
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether this may be a cookie's name: a token of RFC 9110 section 5.6.2.
pub fn is_cookie_name(name: &[u8]) -> bool {
    let is_tchar = |&b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.iter().all(is_tchar)
}

/// Whether this may be a cookie's value as it stands, without quotes: octets of RFC 6265 section 4.1.1. Empty may be.
pub fn is_cookie_value_octets(value: &[u8]) -> bool {
    value.iter().all(|&b| b.is_ascii_graphic() && !b"\",;\\".contains(&b))
}
