//! A record as a line. Pure.

use super::{
    batch::{Batch, Record, Text},
    entry::By,
};
use crate::http1::text::decimal;
use control::access_log::{LogField, LogFormat, LogPiece};
use std::io::Write;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// Appends what is formatted: to a vector that never fails.
macro_rules! text {
    ($out:expr, $($arg:tt)*) => { drop(write!($out, $($arg)*)) };
}
/// Makes lines in one format.
pub(super) struct Lines {
    format: LogFormat,
    stamp: Stamp,
}

/// One second in both forms: lines come in order, and most have the second of the one before.
#[derive(Default)]
struct Stamp {
    second: Option<u64>,
    rfc3339: String,
    clf: String,
}

const RFC3339: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const CLF: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

impl Stamp {
    fn of(&mut self, second: u64) -> &Self {
        if self.second != Some(second) {
            let at = i64::try_from(second).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
            let shown = |form| at.and_then(|at| at.format(form).ok()).unwrap_or_default();
            *self = Self { second: Some(second), rfc3339: shown(RFC3339), clf: shown(CLF) };
        }
        self
    }
}

/// What a field is in a line.
enum Value<'a> {
    Absent,
    Text(&'a [u8]),
    Word(&'a str),
    Number(u64),
    Flag(bool),
    /// In microseconds; shown in milliseconds.
    Span(u64),
    /// In microseconds since 1970.
    Time(u64),
    /// The same, as Apache writes it.
    TimeClf(u64),
    /// A session's key: 16 digits.
    Key(u64),
    Address(std::net::IpAddr),
}

impl Lines {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, stamp: Stamp::default() }
    }

    pub(super) fn write(&mut self, worker: usize, record: &Record, batch: &Batch, out: &mut Vec<u8>) {
        let Self { format, stamp } = self;
        match format {
            LogFormat::Json => {
                let mut before = b'{';
                for field in LogField::json() {
                    let value = value(field, worker, record, batch);
                    if matches!(value, Value::Absent) {
                        continue;
                    }
                    out.push(before);
                    before = b',';
                    for part in [b"\"", field.name().as_bytes(), b"\":"] {
                        out.extend_from_slice(part);
                    }
                    json(&value, stamp, out);
                }
                out.extend_from_slice(b"}\n");
            }
            LogFormat::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        LogPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        LogPiece::Field(field) => plain(&value(*field, worker, record, batch), stamp, out),
                    }
                }
                out.push(b'\n');
            }
        }
    }
}

fn value<'a>(field: LogField, worker: usize, record: &Record, batch: &'a Batch) -> Value<'a> {
    let text = |text| match batch.text(record, text) {
        [] => Value::Absent,
        text => Value::Text(text),
    };
    let word = |word: &'static str| if word.is_empty() { Value::Absent } else { Value::Word(word) };
    let span = |span: Option<u64>| span.map_or(Value::Absent, Value::Span);
    // Of what no backend was asked for there is nothing to say.
    let if_tried = |value| if record.attempts > 0 { value } else { Value::Absent };
    match field {
        LogField::Time => Value::Time(record.at),
        LogField::TimeClf => Value::TimeClf(record.at),
        LogField::Listener => text(Text::Listener),
        LogField::Client => Value::Address(record.opening.client.ip()),
        // Of a client that a proxy tells of the port is not known.
        LogField::ClientPort => match record.opening.client.port() {
            0 => Value::Absent,
            port => Value::Number(port.into()),
        },
        LogField::Tls => Value::Flag(record.opening.is_tls),
        LogField::Protocol => word(record.opening.protocol),
        LogField::Method => text(Text::Method),
        LogField::Host => text(Text::Host),
        LogField::Path => text(Text::Path),
        LogField::Status => match record.status {
            0 => Value::Absent,
            status => Value::Number(status.into()),
        },
        LogField::Pool => text(Text::Pool),
        LogField::Backend => text(Text::Backend),
        LogField::Marker => word(record.marker),
        LogField::Affinity => word(record.affinity),
        LogField::Cause => word(record.cause),
        LogField::Marked => if_tried(Value::Flag(record.marked)),
        LogField::Session => record.session.map_or(Value::Absent, Value::Key),
        LogField::Attempts => if_tried(Value::Number(record.attempts.into())),
        LogField::Reused => if_tried(Value::Flag(record.reused)),
        LogField::EndedBy => record.ended_by.map_or(Value::Absent, |by| {
            Value::Word(match by {
                By::Client => "client",
                By::Backend => "backend",
                By::Us => "steadfast",
            })
        }),
        LogField::Error => word(record.error),
        LogField::BytesIn => Value::Number(record.bytes_in),
        LogField::BytesOut => Value::Number(record.bytes_out),
        LogField::QueueMs => span(record.queue),
        LogField::ConnectMs => span(record.connect),
        LogField::ResponseMs => span(record.response),
        LogField::TotalMs => Value::Span(record.total),
        LogField::RequestId => text(Text::RequestId),
        LogField::Traceparent => text(Text::Traceparent),
        LogField::UserAgent => text(Text::UserAgent),
        LogField::Referer => text(Text::Referer),
        LogField::Worker => Value::Number(worker as u64),
    }
}

fn json(value: &Value<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    match value {
        Value::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            drop(serde_json::to_writer(out, &text));
        }
        Value::Word(_) | Value::Time(_) | Value::TimeClf(_) | Value::Key(_) | Value::Address(_) => {
            out.push(b'"');
            plain(value, stamp, out);
            out.push(b'"');
        }
        Value::Absent | Value::Number(_) | Value::Flag(_) | Value::Span(_) => plain(value, stamp, out),
    }
}

/// As it stands in a text, where nothing ends a line or a quotation that it stands in.
fn plain(value: &Value<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    match value {
        Value::Absent => out.push(b'-'),
        Value::Text(bytes) => {
            for byte in *bytes {
                match byte {
                    b'"' | b'\\' | 0..=0x1f | 0x7f.. => text!(out, "\\x{byte:02X}"),
                    byte => out.push(*byte),
                }
            }
        }
        Value::Word(word) => out.extend_from_slice(word.as_bytes()),
        Value::Number(number) => decimal(*number, out),
        Value::Flag(true) => out.extend_from_slice(b"true"),
        Value::Flag(false) => out.extend_from_slice(b"false"),
        Value::Span(micros) => {
            decimal(micros / 1_000, out);
            out.push(b'.');
            digits(micros % 1_000, 3, out);
        }
        Value::Time(micros) => {
            out.extend_from_slice(stamp.of(micros / 1_000_000).rfc3339.as_bytes());
            out.push(b'.');
            digits(micros % 1_000_000, 6, out);
            out.push(b'Z');
        }
        Value::TimeClf(micros) => out.extend_from_slice(stamp.of(micros / 1_000_000).clf.as_bytes()),
        Value::Key(key) => text!(out, "{key:016x}"),
        Value::Address(address) => text!(out, "{address}"),
    }
}

/// So many decimal digits, with zeros in front: what the formatting of the standard library takes several times as long for.
fn digits(number: u64, count: u32, out: &mut Vec<u8>) {
    out.extend((0..count).rev().map(|at| b'0' + (number / 10_u64.pow(at) % 10) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        plain(value, &mut Stamp::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_in_a_text_end_no_line_and_no_quotation() {
        for (value, expected) in [
            (Value::Absent, "-"),
            (Value::Text(b"a \"b\" \\ \r\n\x7f\xc3\xa4"), r#"a \x22b\x22 \x5C \x0D\x0A\x7F\xC3\xA4"#),
            (Value::Span(0), "0.000"),
            (Value::Span(12_345_067), "12345.067"),
            (Value::Time(1_795_881_845_000_042), "2026-11-28T16:04:05.000042Z"),
            (Value::TimeClf(951_782_400_000_000), "29/Feb/2000:00:00:00 +0000"),
            (Value::Key(0xabc), "0000000000000abc"),
            (Value::Flag(true), "true"),
            (Value::Number(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }

    #[test]
    fn json_stays_json_whatever_is_in_it() {
        let mut out = Vec::new();
        json(&Value::Text(b"\"\\\n\x00\xff"), &mut Stamp::default(), &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), "\"\\\n\0\u{fffd}");
    }
}
