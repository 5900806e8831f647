//! By what a request is known to all that it passes: `X-Request-Id`, and `traceparent` of W3C Trace Context.

use super::super::{Name, RequestHead};
use super::ToBackend;
use control::spec::IdMode;

/// The longest request id that is passed on, in bytes.
const MAX_ID: usize = 128;

/// What becomes of the two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    request_id: Fate,
    trace: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// What came goes on; there may be none.
    Passes,
    /// Ours goes instead.
    IsMade,
}

impl Identity {
    pub(super) fn of(head: &RequestHead<'_>, to: &ToBackend<'_>) -> Self {
        let fate = |mode, name, is_well_formed: fn(&[u8]) -> bool| {
            let came = || {
                let mut values = head.fields.values(name);
                // Of several, nobody knows which one the next reader takes.
                values.next().is_some_and(is_well_formed) && values.next().is_none()
            };
            let passes = match mode {
                IdMode::Off => true,
                IdMode::Replace => false,
                IdMode::Trust => to.trusted && came(),
                IdMode::Keep => came(),
            };
            if passes { Fate::Passes } else { Fate::IsMade }
        };
        Self {
            request_id: fate(to.forwarding.x_request_id, Name::XRequestId, is_request_id),
            trace: fate(to.forwarding.traceparent, Name::Traceparent, is_traceparent),
        }
    }

    /// Whether a field that came goes on. `tracestate` belongs to the `traceparent` that it came with.
    pub(super) fn passes(self, name: Name) -> bool {
        let fate = if name == Name::XRequestId { self.request_id } else { self.trace };
        fate == Fate::Passes
    }

    /// Appends ours. A request that is given both has the same number in both.
    pub(super) fn write(self, to: &ToBackend<'_>, out: &mut Vec<u8>) {
        if self.request_id == Fate::IsMade {
            out.extend_from_slice(b"X-Request-Id: ");
            hex(to.unique, 32, out);
            out.extend_from_slice(b"\r\n");
        }
        if self.trace == Fate::IsMade {
            // A trace whose number is nothing but zeros is none.
            let trace = to.unique.max(1);
            let parent = (trace >> 64).max(1);
            out.extend_from_slice(b"traceparent: 00-");
            hex(trace, 32, out);
            out.push(b'-');
            hex(parent, 16, out);
            out.extend_from_slice(if is_sampled(trace, to.forwarding.trace_share) { b"-01\r\n" } else { b"-00\r\n" });
        }
    }
}

/// By the trace's last 56 bits, the ones that have to be random (W3C Trace Context level 2, section 2.2.2.4), so that whoever samples
/// by them too decides alike.
fn is_sampled(trace: u128, share: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "of 56 bits, the last three make no difference")]
    let drawn = (trace & ((1 << 56) - 1)) as f64 / (1_u64 << 56) as f64;
    drawn < share
}

/// What no log and no shell trips over.
fn is_request_id(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(byte);
    (1..=MAX_ID).contains(&value.len()) && value.iter().all(is_plain)
}

/// W3C Trace Context, section 3.2: `version-trace-parent-flags`, in small hexadecimal digits. Of versions to come no more is known
/// than how they begin.
fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |digits: &[u8], count| {
        digits.len() == count && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_named = |digits: &[u8], count| is_hex(digits, count) && digits.iter().any(|digit| *digit != b'0');
    let mut parts = value.splitn(5, |byte| *byte == b'-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let ends = version != b"00" || parts.next().is_none();
    ends && version != b"ff" && is_hex(version, 2) && is_named(trace, 32) && is_named(parent, 16) && is_hex(flags, 2)
}

/// The last so many digits.
fn hex(number: u128, digits: usize, out: &mut Vec<u8>) {
    let digit = |half: u8| half + if half > 9 { b'a' - 10 } else { b'0' };
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    out.extend_from_slice(text.get(text.len() - digits..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_no_reader_trips_over_are_passed_on() {
        let long = "a".repeat(MAX_ID);
        for id in ["1", "7b3f-11", "Root=1-67891233-abcdef012345678912345678", "a.b_c~d+e/f:g@h", &long] {
            assert!(is_request_id(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a,b", "a\"b", "a\\b", "a;b", "{a}", "\u{e4}", &format!("{long}a")] {
            assert!(!is_request_id(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn traceparents_are_known_by_their_form() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for (value, good, why) in [
            (format!("00-{trace}-{parent}-01"), true, "the example of the standard"),
            (format!("00-{trace}-{parent}-00"), true, "not sampled"),
            (format!("00-{trace}-{parent}-01-x"), false, "version 00 has nothing behind"),
            (format!("cc-{trace}-{parent}-01-x"), true, "a version to come may have"),
            (format!("cc-{trace}-{parent}-01x"), false, "but parted"),
            (format!("ff-{trace}-{parent}-01"), false, "no version"),
            (format!("0g-{trace}-{parent}-01"), false, "no digit"),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false, "capitals"),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false, "no trace"),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false, "no parent"),
            (format!("00-{trace}-{parent}-0"), false, "too short"),
            (format!("00_{trace}-{parent}-01"), false, "not parted"),
            (String::new(), false, "empty"),
        ] {
            assert_eq!(is_traceparent(value.as_bytes()), good, "{why}: {value}");
        }
    }

    #[test]
    fn as_many_traces_are_sampled_as_are_to_be() {
        let sampled =
            |share| (0..10_000_u64).filter(|n| is_sampled(u128::from(affinity::hash::mix64(*n)), share)).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&sampled(0.25)), "{}", sampled(0.25));
    }
}
