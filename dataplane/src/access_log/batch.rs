use super::entry::{By, Entry, Opening};

/// What is told of some exchanges.
#[derive(Debug, Default)]
pub(super) struct Batch {
    records: Vec<Record>,
    text: Vec<u8>,
}

/// What is told of one, but for its texts.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) opening: Opening,
    /// Microseconds since 1970 at which it began.
    pub(super) at: u64,
    pub(super) marker: &'static str,
    pub(super) affinity: &'static str,
    pub(super) cause: &'static str,
    pub(super) marked: bool,
    pub(super) session: Option<u64>,
    pub(super) status: u16,
    pub(super) attempts: u32,
    pub(super) reused: bool,
    pub(super) ended_by: Option<By>,
    pub(super) error: &'static str,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) queue: Option<u64>,
    pub(super) connect: Option<u64>,
    pub(super) response: Option<u64>,
    pub(super) total: u64,
    /// Where its texts begin in the batch's, and where each of them ends.
    start: usize,
    ends: [usize; Text::COUNT],
}

/// The texts of a record, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Listener,
    Pool,
    Backend,
    Method,
    Path,
    Host,
    RequestId,
    Traceparent,
    UserAgent,
    Referer,
}

impl Text {
    const COUNT: usize = Self::Referer as usize + 1;
    /// Those that are fields of the head, with their names.
    const FIELDS: [(Self, &'static str); 5] = [
        (Self::Host, "host"),
        (Self::RequestId, "x-request-id"),
        (Self::Traceparent, "traceparent"),
        (Self::UserAgent, "user-agent"),
        (Self::Referer, "referer"),
    ];
}

impl Batch {
    /// `now` is on the worker's clock, `unix` the same moment since 1970, both in microseconds.
    pub(super) fn add(&mut self, entry: &Entry, listener: &str, now: u64, unix: u64) {
        let total = now.saturating_sub(entry.opening.began);
        let start = self.text.len();
        let mut ends = [0; Text::COUNT];
        let (method, path, fields) = described(&entry.head);
        let named = [listener.as_bytes(), entry.pool.as_bytes(), entry.backend.as_bytes(), method, path];
        for (end, text) in ends.iter_mut().zip(named.into_iter().chain(fields)) {
            self.text.extend_from_slice(text);
            *end = self.text.len();
        }
        self.records.push(Record {
            opening: entry.opening,
            at: unix.saturating_sub(total),
            marker: entry.marker,
            affinity: entry.affinity.get(),
            cause: entry.cause.get(),
            marked: entry.marked.get(),
            session: entry.session.get(),
            status: entry.status.get(),
            attempts: entry.attempts,
            reused: entry.reused,
            ended_by: entry.ended_by.get(),
            error: entry.error.get(),
            bytes_in: entry.bytes_in.get(),
            bytes_out: entry.bytes_out.get(),
            queue: entry.queue,
            connect: entry.connect,
            response: entry.response.get(),
            total,
            start,
            ends,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The memory that it takes up.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.records.len() * size_of::<Record>()
    }

    pub(super) fn text(&self, record: &Record, text: Text) -> &[u8] {
        let from = match (text as usize).checked_sub(1) {
            None => record.start,
            Some(before) => record.ends[before],
        };
        &self.text[from..record.ends[text as usize]]
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.text.clear();
    }
}

/// The lines of a head, without what follows it. Of one that came as it is, empty lines may stand before it.
fn lines_of(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head.trim_ascii_start();
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        Some(line).filter(|line| !line.is_empty())
    })
}

/// Method, target and [`Text::FIELDS`] of a head; what is not there is empty. Of a field that came twice, the first.
fn described(head: &[u8]) -> (&[u8], &[u8], [&[u8]; Text::FIELDS.len()]) {
    let mut fields = [&b""[..]; Text::FIELDS.len()];
    let mut lines = lines_of(head);
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let label = &line[..colon];
        let known = Text::FIELDS.iter().position(|(_, name)| label.eq_ignore_ascii_case(name.as_bytes()));
        if let Some(at) = known.filter(|at| fields[*at].is_empty()) {
            fields[at] = line[colon + 1..].trim_ascii();
        }
    }
    (method, path, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_described_and_its_body_is_not() {
        let head =
            b"GET /a?b HTTP/1.1\r\nHost: h\r\nuser-AGENT:  x y \r\nUser-Agent: z\r\nX: 1\r\n\r\nReferer: body\r\n";
        let (method, path, fields) = described(head);
        assert_eq!((method, path, fields), (&b"GET"[..], &b"/a?b"[..], [&b"h"[..], b"", b"", b"x y", b""]));
        for nothing in [&b""[..], b"\r\n", b"x"] {
            assert_eq!(described(nothing).2, [&b""[..]; 5]);
        }
    }
}
