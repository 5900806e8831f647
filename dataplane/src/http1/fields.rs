//! The fields of one head, as places in the bytes that it was read from.

use super::{BadFields, Limits, Name};
use httparse::{EMPTY_HEADER, Error, Status};

/// Fields that one head may have, whatever the configuration says.
pub(super) const MAX: usize = 128;

/// Fields that nearly every head makes do with, so that room for more is seldom set up.
const USUAL: usize = 32;

/// Room for the places of one head's fields, kept by the caller so that no parse has to set it up or move it.
#[derive(Clone, Debug)]
pub struct FieldIndex([Place; MAX]);

impl Default for FieldIndex {
    fn default() -> Self {
        Self([Place::default(); MAX])
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    label: u16,
    label_len: u16,
    value: u16,
    value_len: u16,
    name: Name,
}

/// The fields of a head, in order.
#[derive(Clone, Copy)]
pub struct Fields<'b> {
    head: &'b [u8],
    places: &'b [Place],
    /// [`Name::bit`] of each field that is there.
    seen: u32,
}

/// One field: its name as we know it, its name as it came, and its value without the space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    pub name: Name,
    pub label: &'b [u8],
    pub value: &'b [u8],
    /// Where the line starts in the head.
    pub(super) at: usize,
}

impl<'b> Fields<'b> {
    /// Parses the fields from `head[at..]` to the empty line that ends them and returns them with the place after it;
    /// `None` when it is not there yet. The line before `at` must have ended in CRLF.
    pub(super) fn parse(
        head: &'b [u8],
        at: usize,
        limits: &Limits,
        index: &'b mut FieldIndex,
    ) -> Result<Option<(Self, usize)>, BadFields> {
        let max = limits.headers.min(MAX);
        let mut usual = [EMPTY_HEADER; USUAL];
        let found = match tokenise(head, at, usual.get_mut(..max.min(USUAL)).unwrap_or_default(), index) {
            Err(BadFields::TooMany) if max > USUAL => {
                let mut all = [EMPTY_HEADER; MAX];
                tokenise(head, at, all.get_mut(..max).unwrap_or_default(), index)
            }
            found => found,
        }?;
        Ok(found.map(|found| {
            let places = index.0.get(..found.count).unwrap_or_default();
            let head = head.get(..found.end).unwrap_or(head);
            (Self { head, places, seen: found.seen }, found.end)
        }))
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'b>> + use<'_, 'b> {
        self.places.iter().map(|place| Field {
            name: place.name,
            label: slice(self.head, place.label, place.label_len),
            value: slice(self.head, place.value, place.value_len),
            at: usize::from(place.label),
        })
    }

    pub fn has(&self, name: Name) -> bool {
        self.seen & name.bit() != 0
    }

    /// The values of the fields of this name, in order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'b [u8]> + use<'_, 'b> {
        let present = if self.has(name) { self.places } else { &[] };
        present
            .iter()
            .filter(move |place| place.name == name)
            .map(|place| slice(self.head, place.value, place.value_len))
    }

    /// The values of the fields called `label`, in any case.
    pub fn called<'f>(&'f self, label: &'f [u8]) -> impl Iterator<Item = &'b [u8]> + use<'f, 'b> {
        self.iter().filter(|field| field.label.eq_ignore_ascii_case(label)).map(|field| field.value)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The whole head, which the fields are places in.
    pub fn head(&self) -> &'b [u8] {
        self.head
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|field| (field.label.escape_ascii().to_string(), field.value.escape_ascii())))
            .finish()
    }
}

/// What [`tokenise`] put into an index.
struct Found {
    count: usize,
    seen: u32,
    end: usize,
}

fn tokenise<'b>(
    head: &'b [u8],
    at: usize,
    room: &mut [httparse::Header<'b>],
    index: &mut FieldIndex,
) -> Result<Option<Found>, BadFields> {
    match httparse::parse_headers(head.get(at..).unwrap_or_default(), room) {
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete((len, headers))) => note(head, headers, at + len, index).map(Some),
        Err(Error::TooManyHeaders) => Err(BadFields::TooMany),
        Err(
            Error::HeaderName | Error::HeaderValue | Error::NewLine | Error::Status | Error::Token | Error::Version,
        ) => Err(BadFields::Line),
    }
}

/// Writes the places of `headers` down. httparse takes LF alone for a line's end, so what stands before each line is
/// looked at here.
fn note(head: &[u8], headers: &[httparse::Header<'_>], end: usize, index: &mut FieldIndex) -> Result<Found, BadFields> {
    let mut seen = 0;
    for (place, header) in index.0.iter_mut().zip(headers) {
        let label = offset(head, header.name.as_bytes());
        if !ends_line(head, label) {
            return Err(BadFields::BareLf);
        }
        let name = Name::of(header.name.as_bytes());
        seen |= name.bit();
        // `Limits` keeps a head within 16 bits.
        *place = Place {
            label: label as u16,
            label_len: header.name.len() as u16,
            value: offset(head, header.value) as u16,
            value_len: header.value.len() as u16,
            name,
        };
    }
    if ends_line(head, end) && ends_line(head, end.saturating_sub(2)) {
        Ok(Found { count: headers.len(), seen, end })
    } else {
        Err(BadFields::BareLf)
    }
}

/// Where `part`, which lies in `head`, starts.
fn offset(head: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(head.as_ptr().addr())
}

fn ends_line(head: &[u8], at: usize) -> bool {
    head.get(..at).is_some_and(|before| before.ends_with(b"\r\n"))
}

fn slice(head: &[u8], at: u16, len: u16) -> &[u8] {
    let at = usize::from(at);
    head.get(at..at + usize::from(len)).unwrap_or_default()
}
