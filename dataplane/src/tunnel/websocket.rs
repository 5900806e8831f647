//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2), and the frame that ends it. Looks at heads
//! alone: payloads are skipped by their lengths.

/// Follows one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// What of a head has come, of at most 14 bytes.
    head: [u8; 14],
    held: u8,
    /// Bytes of payload that are still to come.
    payload: u64,
    /// A close frame has begun: nothing may follow it.
    closed: bool,
    /// A head that no length can be read from: nothing is known from there on.
    lost: bool,
}

const CLOSE: u8 = 0x8;
/// An endpoint is going away (RFC 6455 section 7.4.1).
const GOING_AWAY: [u8; 2] = 1_001u16.to_be_bytes();

impl Frames {
    /// Takes note of bytes that pass, and tells after how many of them the last frame ended that ends among them.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut at, mut last) = (0, None);
        while at < bytes.len() && !self.lost {
            let rest = &bytes[at..];
            if self.payload > 0 {
                let skipped = rest.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skipped as u64;
                at += skipped;
            } else {
                self.head[usize::from(self.held)] = rest[0];
                self.held += 1;
                at += 1;
                self.end_head();
            }
            if self.is_between() {
                last = Some(at);
            }
        }
        last
    }

    /// Reads the head, if all of it has come.
    fn end_head(&mut self) {
        let head = &self.head[..usize::from(self.held)];
        let [first, second, more @ ..] = head else { return };
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if more.len() < length_bytes + if masked { 4 } else { 0 } {
            return;
        }
        let extended = more[..length_bytes].iter().fold(0u64, |length, byte| length << 8 | u64::from(*byte));
        self.payload = if length_bytes == 0 { short.into() } else { extended };
        self.closed |= first & 0x0f == CLOSE;
        // The most significant bit must be 0.
        self.lost = self.payload >> 63 != 0;
        self.held = 0;
    }

    /// Whether a frame may begin here: all that has begun is whole.
    pub(super) fn is_between(&self) -> bool {
        self.held == 0 && self.payload == 0 && !self.lost
    }

    /// Whether a close frame has come whole.
    pub(super) fn have_closed(&self) -> bool {
        self.is_between() && self.closed
    }

    /// Whether a close frame fits in here, between frames and behind no other.
    pub(super) fn takes_close(&self) -> bool {
        self.is_between() && !self.closed
    }
}

/// The frame by which we go away, towards a client; towards a backend it is masked by `mask`, which nobody can foresee
/// (RFC 6455 section 5.3).
pub(super) fn going_away(mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    out.push(0x80 | CLOSE);
    match mask {
        None => {
            out.push(2);
            out.extend_from_slice(&GOING_AWAY);
        }
        Some(mask) => {
            out.push(0x80 | 2);
            out.extend_from_slice(&mask);
            out.extend(GOING_AWAY.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as it is on the wire.
    fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut out = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..=125 => out.push(bit | u8::try_from(len).unwrap()),
            len @ 126..=0xffff => {
                out.push(bit | 126);
                out.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                out.push(bit | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(mask.into_iter().flatten());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_end_where_their_lengths_say() {
        for (bytes, between, why) in [
            (&b""[..], true, "nothing yet"),
            (b"\x81", false, "half a head"),
            (b"\x81\x00", true, "an empty message"),
            (b"\x89\x80abcd", true, "an empty ping with a mask"),
            (b"\x89\x80abc", false, "within the mask"),
            (b"\x01\x03abc", true, "a fragment: a control frame may come between"),
            (b"\x81\x03ab", false, "within the payload"),
            (b"\x82\x7e\x00\x02ab", true, "16 bits of length"),
            (b"\x82\x7e\x00", false, "within them"),
            (b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01a", true, "64 bits"),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", false, "a length that can't be"),
            (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", false, "nothing is known behind it"),
        ] {
            let mut frames = Frames::default();
            frames.pass(bytes);
            assert_eq!(frames.is_between(), between, "{why}");
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut frames = Frames::default();
        frames.pass(&frame(1, b"x", None));
        assert!(frames.takes_close());
        frames.pass(&frame(8, b"\x03\xe8", None));
        assert!(frames.is_between() && !frames.takes_close());
    }

    #[test]
    fn what_we_say_is_a_close_frame_with_the_code_1001() {
        let mut out = Vec::new();
        going_away(None, &mut out);
        assert_eq!(out, frame(8, &[0x03, 0xe9], None));
        out.clear();
        let mask = [1, 2, 3, 4];
        going_away(Some(mask), &mut out);
        assert_eq!(out, frame(8, &[0x03 ^ 1, 0xe9 ^ 2], Some(mask)));
    }

    proptest! {
        /// However the bytes are cut, each frame ends at its end and nowhere else.
        #[test]
        fn each_end_is_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec((0u8..8, 0usize..70_000, any::<Option<[u8; 4]>>()), 1..5),
            cuts in proptest::collection::vec(1usize..5_000, 1..60),
        ) {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            for (opcode, len, mask) in frames {
                bytes.extend(frame(opcode, &vec![0x88; len], mask));
                ends.push(bytes.len());
            }
            let (mut seen, mut at, mut cuts) = (Frames::default(), 0, cuts.into_iter().cycle());
            while at < bytes.len() {
                let next = (at + cuts.next().unwrap()).min(bytes.len());
                let last = seen.pass(&bytes[at..next]);
                let expected = ends.iter().rev().find(|end| (at + 1..=next).contains(*end)).map(|end| end - at);
                prop_assert_eq!(last, expected);
                prop_assert_eq!(seen.is_between(), ends.contains(&next));
                at = next;
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, cut in 0usize..64) {
            let (mut whole, mut parts) = (Frames::default(), Frames::default());
            whole.pass(&bytes);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            parts.pass(head);
            parts.pass(tail);
            prop_assert_eq!(whole.is_between(), parts.is_between());
            prop_assert_eq!(whole.takes_close(), parts.takes_close());
        }
    }
}
