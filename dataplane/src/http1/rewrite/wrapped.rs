//! A token of ours in front of what the application calls its session.

use super::super::{Field, Name};
use affinity::{cookie::CookieName, marker::wrapped};

/// What carries the session's name.
#[derive(Clone, Copy, Debug)]
pub enum Carrier<'a> {
    Cookie(&'a CookieName),
    /// A header of this name, in any case.
    Header(&'a [u8]),
}

/// What carries the session's name to the client, and the token that goes in front.
#[derive(Clone, Copy, Debug)]
pub struct Wrap<'a> {
    pub carrier: Carrier<'a>,
    pub token: &'a [u8],
}

impl Carrier<'_> {
    /// Whether a field of a request may have tokens to be taken off.
    pub(super) fn is_request_field(&self, field: &Field<'_>) -> bool {
        match self {
            Self::Cookie(_) => field.name == Name::Cookie,
            Self::Header(name) => field.name == Name::Other && field.label.eq_ignore_ascii_case(name),
        }
    }

    /// Appends a request field's value as the backend is to see it.
    pub(super) fn unwrap(&self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Cookie(name) => name.replaced(value, wrapped::bare, out),
            Self::Header(_) => out.extend_from_slice(wrapped::bare(value)),
        }
    }
}

impl Wrap<'_> {
    /// Where in a response field's value the token goes, if it names the session.
    pub(super) fn place(&self, field: &Field<'_>) -> Option<usize> {
        match self.carrier {
            Carrier::Cookie(name) if field.name == Name::SetCookie => {
                let pair = field.value.split(|byte| *byte == b';').next()?;
                let equals = memchr::memchr(b'=', pair)?;
                let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
                let (key, value) = pair.split_at_checked(equals + 1)?;
                let key = key.strip_suffix(b"=")?.trim_ascii();
                let space = value.iter().take_while(|byte| is_space(byte)).count();
                (key == name.as_bytes() && space < value.len()).then_some(equals + 1 + space)
            }
            Carrier::Header(name) if field.name == Name::Other => {
                (field.label.eq_ignore_ascii_case(name) && !field.value.is_empty()).then_some(0)
            }
            Carrier::Cookie(_) | Carrier::Header(_) => None,
        }
    }

    pub(super) fn write(&self, value: &[u8], at: usize, out: &mut Vec<u8>) {
        let (before, name) = value.split_at_checked(at).unwrap_or((b"", value));
        for part in [before, self.token, &[wrapped::SEPARATOR], name] {
            out.extend_from_slice(part);
        }
    }
}
