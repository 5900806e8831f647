//! Frames that cost us more than whoever sends them: pings, settings, resets (CVE-2019-9512 to 9518, CVE-2023-44487).
//!
//! Each frame is paid for from an account that time refills and that requests and bytes of bodies fill. Who lives within
//! it may send what it likes.

/// The frames of one connection, as they come.
#[derive(Debug)]
pub(super) struct Flood {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes that come before the next header.
    skip: u64,
    account: i64,
    /// When it was refilled last, in milliseconds.
    at: u64,
}

const HEADER: usize = 9;
/// What comes before the first frame (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Points that may be saved up, and that a connection begins with.
const MOST: i64 = 10_000;
/// Points that come back each millisecond.
const REFILL: i64 = 2;
/// Bytes for which a point is earned where they are sent to the client: it says for each few of them that it has room.
const SENT_FOR_POINT: usize = 256;
/// And where they come.
const CAME_FOR_POINT: i64 = 64;

impl Flood {
    pub(super) fn new(now: u64) -> Self {
        Self { header: [0; HEADER], have: 0, skip: PREFACE.len() as u64, account: MOST, at: now }
    }

    /// Looks at the frames in what has come.
    pub(super) fn came(&mut self, mut bytes: &[u8], now: u64) {
        let waited = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.at = now;
        self.earn(waited.saturating_mul(REFILL));
        while !bytes.is_empty() {
            if self.skip > 0 {
                let over = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= over as u64;
                bytes = &bytes[over..];
                continue;
            }
            let count = (HEADER - self.have).min(bytes.len());
            self.header[self.have..][..count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEADER {
                self.have = 0;
                self.frame();
            }
        }
    }

    /// Notes what was sent.
    pub(super) fn went(&mut self, count: usize) {
        self.earn(i64::try_from(count / SENT_FOR_POINT).unwrap_or(i64::MAX));
    }

    pub(super) fn is_over(&self) -> bool {
        self.account < 0
    }

    fn frame(&mut self) {
        let [high, middle, low, kind, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = u64::from(length);
        let points = match kind {
            // DATA: none of it may be its end, which a request has once.
            0x0 if length == 0 => -5,
            0x0 => i64::from(length) / CAME_FOR_POINT,
            // HEADERS.
            0x1 => 10,
            // WINDOW_UPDATE.
            0x8 => -1,
            // RST_STREAM, SETTINGS, PING: each has us do something.
            0x3 | 0x4 | 0x6 => -20,
            // PRIORITY, CONTINUATION, and what we don't know.
            _ => -10,
        };
        self.earn(points);
    }

    fn earn(&mut self, points: i64) {
        self.account = self.account.saturating_add(points).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = length_bytes[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.resize(HEADER + length, 0);
        bytes
    }

    /// How many of the frames pass one after another, in no time.
    fn pass(frames: &[Vec<u8>]) -> Option<usize> {
        let mut flood = Flood::new(0);
        flood.came(PREFACE, 0);
        (0..20_000).find(|at| {
            flood.came(&frames[at % frames.len()], 0);
            flood.is_over()
        })
    }

    #[test]
    fn frames_that_ask_for_work_and_bring_nothing_end_a_connection() {
        for (kind, length, most) in [
            (0x6, 8, 501),
            (0x4, 0, 501),
            (0x3, 4, 501),
            (0x2, 5, 1_001),
            (0x9, 1, 1_001),
            (0x0, 0, 2_001),
            (0xbe, 3, 1_001),
        ] {
            let passed = pass(&[frame(kind, length)]).unwrap();
            assert!(passed <= most, "{passed} of kind {kind}");
        }
        // A request, and it taken back: Rapid Reset.
        assert!(pass(&[frame(0x1, 20), frame(0x3, 4)]).unwrap() < 2_100);
    }

    #[test]
    fn requests_bodies_and_what_belongs_to_them_may_come_without_end() {
        for frames in [
            vec![frame(0x1, 30)],
            vec![frame(0x1, 30), frame(0x0, 0)],
            vec![frame(0x1, 30), frame(0x1, 30), frame(0x3, 4)],
            vec![frame(0x1, 30), frame(0x0, 1_000), frame(0x1, 10)],
            vec![frame(0x0, 16_384), frame(0x8, 4)],
        ] {
            assert_eq!(pass(&frames), None);
        }
    }

    #[test]
    fn time_refills_the_account_and_so_does_what_is_sent() {
        let mut flood = Flood::new(0);
        flood.came(PREFACE, 0);
        for now in (0..100_000).step_by(10) {
            flood.came(&frame(0x6, 8), now);
        }
        assert!(!flood.is_over(), "a hundred pings in a second are odd and no flood");
        for _ in 0..20_000 {
            flood.came(&frame(0x8, 4), 100_000);
            flood.went(256);
        }
        assert!(!flood.is_over());
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let bytes: Vec<u8> =
            [PREFACE.to_vec(), frame(0x4, 18), frame(0x1, 300), frame(0x0, 4_096), frame(0x6, 8)].concat();
        let whole = {
            let mut flood = Flood::new(0);
            flood.came(&bytes, 0);
            flood.account
        };
        assert_eq!(whole, MOST - 20);
        for size in [1, 2, 7, 9, 10, 100] {
            let mut flood = Flood::new(0);
            bytes.chunks(size).for_each(|piece| flood.came(piece, 0));
            assert_eq!((flood.account, flood.have, flood.skip), (whole, 0, 0), "in pieces of {size}");
        }
    }
}
