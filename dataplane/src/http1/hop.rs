//! What is meant for one connection and not for the far end (RFC 9110 §7.6.1).

use super::{BadFields, Fields, Name, Version, text};

/// Connection options over all `Connection` fields of a head. Nobody needs more, and each costs a pass over the fields.
const MAX_OPTIONS: usize = 32;

/// What the `Connection` fields of a head say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
    /// An option that may be the name of a field which goes no further.
    pub(super) nominates: bool,
}

pub(super) fn options(fields: &Fields<'_>) -> Result<Options, BadFields> {
    let mut options = Options::default();
    for (count, option) in fields.values(Name::Connection).flat_map(text::list).enumerate() {
        if count == MAX_OPTIONS {
            return Err(BadFields::ConnectionOptions);
        }
        if option.eq_ignore_ascii_case(b"close") {
            options.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            options.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            options.upgrade = true;
        } else {
            options.nominates = true;
        }
    }
    Ok(options)
}

impl Options {
    /// Whether the sender will take another message on this connection (RFC 9112 §9.3).
    pub(super) fn persist(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// Whether a `Connection` field names `label`. Asked for fields only that we have no rule of our own for: a nomination
/// of `Host`, of a framing or forwarding field, or of `Cookie` changes nothing.
pub(super) fn nominated(fields: &Fields<'_>, label: &[u8]) -> bool {
    fields.values(Name::Connection).flat_map(text::list).any(|option| option.eq_ignore_ascii_case(label))
}
