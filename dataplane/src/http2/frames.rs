//! What a peer's frames cost, and what is wrong with a client's. `h2` judges them too: here is what it takes for less than it is,
//! or calls by a name that tells nobody what went wrong.
//!
//! Frames that cost us more than whoever sends them, as pings, settings and resets (CVE-2019-9512 to 9518, CVE-2023-44487),
//! are paid for from an account that time refills, and that requests and bytes of bodies fill. Who lives within it may
//! send what it likes. A backend earns by the requests that it is sent, and pays for its answers.

use ahash::AHashSet;
use h2::Reason;

/// The frames of one connection, as they come.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes that come before the next header.
    skip: u64,
    /// What has come of a payload that is looked into.
    settings: Option<Vec<u8>>,
    /// The stream whose fields go on in the next frame.
    goes_on: Option<u32>,
    /// The newest stream, and how many there were.
    last: u32,
    begun: u32,
    /// Streams of which the client has neither sent the end nor taken them back.
    open: AHashSet<u32>,
    account: i64,
    /// When it was refilled last, in milliseconds.
    at: u64,
    is_backend: bool,
    /// Why the connection is to end.
    verdict: Option<Reason>,
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
/// Points for a request that a backend is sent: for its answer, trailers, some interim responses, and that it resets the stream.
const REQUEST: i64 = 60;
/// Frames that `h2` sees before others have their turn: enough for it to see a request and its taking back together, for
/// dozens of them, since it then knows a Rapid Reset and begins none.
const TURN: usize = 128;
/// For how many of them one counts that gives a stream room: what waits there is moved at once.
const WINDOW: usize = 8;
/// The longest SETTINGS that is looked into; `h2` reads all.
const MAX_SETTINGS: usize = 600;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// RFC 9113 section 6.
mod kind {
    pub(super) const DATA: u8 = 0x0;
    pub(super) const HEADERS: u8 = 0x1;
    pub(super) const PRIORITY: u8 = 0x2;
    pub(super) const RST_STREAM: u8 = 0x3;
    pub(super) const SETTINGS: u8 = 0x4;
    pub(super) const PUSH_PROMISE: u8 = 0x5;
    pub(super) const PING: u8 = 0x6;
    pub(super) const WINDOW_UPDATE: u8 = 0x8;
    pub(super) const CONTINUATION: u8 = 0x9;
}

impl Frames {
    pub(super) fn new(now: u64) -> Self {
        Self {
            header: [0; HEADER],
            have: 0,
            skip: PREFACE.len() as u64,
            settings: None,
            goes_on: None,
            last: 0,
            begun: 0,
            open: AHashSet::new(),
            account: MOST,
            at: now,
            is_backend: false,
            verdict: None,
        }
    }

    /// Those of a backend.
    pub(super) fn of_backend(now: u64) -> Self {
        Self { skip: 0, is_backend: true, ..Self::new(now) }
    }

    /// Notes that a backend is sent a request.
    pub(super) fn asked(&mut self) {
        self.earn(REQUEST);
    }

    /// Looks at the frames in what has come; how many of the bytes `h2` may see now, and why the connection is to end, if it is.
    /// Of more frames than make a turn it is to see the others later, and of the one by which the connection ends nothing: but
    /// without the preface in front of a flood, it could not even tell why.
    pub(super) fn came(&mut self, bytes: &[u8], now: u64) -> (usize, Option<Reason>) {
        let waited = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        self.at = now;
        self.earn(waited.saturating_mul(REFILL));
        let (mut rest, mut sound, mut turn) = (bytes, 0, TURN);
        while !rest.is_empty() {
            if self.skip > 0 {
                let over = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                self.skip -= over as u64;
                self.payload(&rest[..over]);
                rest = &rest[over..];
            } else {
                if self.have == 0 {
                    sound = bytes.len() - rest.len();
                    if turn == 0 {
                        return (sound, None);
                    }
                }
                let count = (HEADER - self.have).min(rest.len());
                self.header[self.have..][..count].copy_from_slice(&rest[..count]);
                self.have += count;
                rest = &rest[count..];
                if self.have == HEADER {
                    self.have = 0;
                    self.frame();
                    turn = turn.saturating_sub(if self.header[3] == kind::WINDOW_UPDATE { WINDOW } else { 1 });
                }
            }
            if self.verdict.is_some() {
                return (sound, self.verdict);
            }
        }
        (bytes.len(), None)
    }

    /// Notes what was sent.
    pub(super) fn went(&mut self, count: usize) {
        self.earn(i64::try_from(count / SENT_FOR_POINT).unwrap_or(i64::MAX));
    }

    fn frame(&mut self) {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        self.skip = u64::from(length);
        // What a backend answers with, `h2` and those who read it judge.
        self.verdict = if self.is_backend { None } else { self.wrong(kind, flags, length, stream) };
        let looked_into = kind == kind::SETTINGS && length as usize <= MAX_SETTINGS;
        self.settings = looked_into.then(|| Vec::with_capacity(length as usize));
        self.earn(match kind {
            // None of it may be its end, which a request has once.
            kind::DATA if length == 0 => -5,
            kind::DATA => i64::from(length) / CAME_FOR_POINT,
            // It may answer as often as it was asked, and interim responses are answers that nobody asked for.
            kind::HEADERS if self.is_backend => -10,
            kind::HEADERS => 10,
            kind::WINDOW_UPDATE => -1,
            // Each has us do something.
            kind::RST_STREAM | kind::SETTINGS | kind::PING => -20,
            // PRIORITY, CONTINUATION, and what we don't know.
            _ => -10,
        });
        if self.account < 0 {
            self.verdict = self.verdict.or(Some(Reason::ENHANCE_YOUR_CALM));
        }
    }

    /// What is wrong with a frame, by its header and those before it.
    fn wrong(&mut self, kind: u8, flags: u8, length: u32, stream: u32) -> Option<Reason> {
        let has = |flag| flags & flag != 0;
        let size = match kind {
            kind::PRIORITY => length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::PING => length == 8,
            kind::SETTINGS => length.is_multiple_of(6) && !(has(ACK) && length > 0),
            _ => true,
        };
        let continues = self.goes_on.take();
        match kind {
            _ if !size => Some(Reason::FRAME_SIZE_ERROR),
            // Nothing may come in between, and nothing goes on that has not begun (section 6.10).
            kind::CONTINUATION if continues != Some(stream) => Some(Reason::PROTOCOL_ERROR),
            _ if continues.is_some() && kind != kind::CONTINUATION => Some(Reason::PROTOCOL_ERROR),
            kind::PUSH_PROMISE => Some(Reason::PROTOCOL_ERROR),
            kind::HEADERS | kind::DATA if self.has_ended(stream) => Some(Reason::STREAM_CLOSED),
            kind::HEADERS | kind::DATA | kind::CONTINUATION | kind::RST_STREAM => {
                if kind == kind::HEADERS && stream > self.last {
                    self.last = stream;
                    self.begun += 1;
                    self.open.insert(stream);
                }
                if kind == kind::RST_STREAM || (kind != kind::CONTINUATION && has(END_STREAM)) {
                    self.open.remove(&stream);
                }
                self.goes_on =
                    (matches!(kind, kind::HEADERS | kind::CONTINUATION) && !has(END_HEADERS)).then_some(stream);
                None
            }
            _ => None,
        }
    }

    /// Whether there was such a stream, and its client has said that nothing more comes. Of who leaves out numbers it is not
    /// known; `h2` then says what it thinks of them.
    fn has_ended(&self, stream: u32) -> bool {
        let all_numbers = self.begun == self.last.div_ceil(2);
        stream > 0 && stream <= self.last && all_numbers && !self.open.contains(&stream)
    }

    /// Looks at bytes of a payload, where that is called for.
    fn payload(&mut self, bytes: &[u8]) {
        let Some(settings) = &mut self.settings else { return };
        settings.extend_from_slice(bytes);
        if self.skip > 0 {
            return;
        }
        // SETTINGS_INITIAL_WINDOW_SIZE has at most 31 bits (section 6.5.2).
        let too_large = |setting: &[u8]| matches!(setting, [0, 0x4, high, ..] if *high >= 0x80);
        if settings.chunks(6).any(too_large) {
            self.verdict = Some(Reason::FLOW_CONTROL_ERROR);
        }
        self.settings = None;
    }

    fn earn(&mut self, points: i64) {
        self.account = self.account.saturating_add(points).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of stream 1, with its flags.
    fn flagged(kind: u8, flags: u8, stream: u8, length: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = length_bytes[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, stream]);
        bytes.resize(HEADER + length, 0);
        bytes
    }

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        flagged(kind, END_HEADERS, 1, length)
    }

    fn request(flags: u8, stream: u8) -> Vec<u8> {
        flagged(kind::HEADERS, flags, stream, 20)
    }

    /// How many of the frames pass one after another, in no time, with streams that are new each time.
    fn pass(frames: &[Vec<u8>]) -> Option<usize> {
        let mut flood = Frames::new(0);
        flood.came(PREFACE, 0);
        flood.came(&request(END_HEADERS, 1), 0);
        (0..20_000).find(|at| {
            let mut frame = frames[at % frames.len()].clone();
            if frame[3] == kind::HEADERS || frame[3] == kind::RST_STREAM {
                let stream = 3 + 2 * (at / frames.len());
                frame[5..9].copy_from_slice(&u32::try_from(stream).unwrap().to_be_bytes());
            }
            let (_, verdict) = flood.came(&frame, 0);
            assert!(matches!(verdict, None | Some(Reason::ENHANCE_YOUR_CALM)), "{verdict:?} of {frame:?}");
            verdict.is_some()
        })
    }

    #[test]
    fn frames_that_ask_for_work_and_bring_nothing_end_a_connection() {
        for (kind, length, most) in
            [(0x6, 8, 501), (0x4, 0, 501), (0x3, 4, 501), (0x2, 5, 1_001), (0x0, 0, 2_001), (0xbe, 3, 1_001)]
        {
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
            vec![frame(0x1, 30), frame(0x3, 4), frame(0x0, 2_000)],
            vec![frame(0x1, 30), frame(0x0, 1_000)],
            vec![frame(0x0, 16_384), frame(0x8, 4)],
        ] {
            assert_eq!(pass(&frames), None);
        }
    }

    #[test]
    fn a_backend_answers_what_it_is_asked_and_floods_nobody() {
        let backend = |asked: bool, frames: &[Vec<u8>]| {
            let mut backend = Frames::of_backend(0);
            (0..20_000).find(|at| {
                if asked && at % frames.len() == 0 {
                    backend.asked();
                }
                backend.came(&frames[at % frames.len()], 0).1.is_some()
            })
        };
        let (head, reset) = (frame(kind::HEADERS, 20), frame(kind::RST_STREAM, 4));
        for frames in [vec![head.clone()], vec![frame(0x8, 4)], vec![frame(kind::PING, 8)], vec![reset.clone()]] {
            assert!(backend(false, &frames).is_some(), "{frames:?}");
        }
        for frames in [vec![head.clone(), head.clone(), head.clone(), head.clone(), reset.clone()], vec![reset]] {
            assert_eq!(backend(true, &frames), None, "{frames:?}");
        }
        assert_eq!(backend(false, &[frame(kind::DATA, 16_384), frame(kind::WINDOW_UPDATE, 4)]), None);
    }

    #[test]
    fn time_refills_the_account_and_so_does_what_is_sent() {
        let mut flood = Frames::new(0);
        flood.came(PREFACE, 0);
        for now in (0..100_000).step_by(10) {
            flood.came(&frame(0x6, 8), now);
        }
        assert_eq!(flood.verdict, None, "a hundred pings in a second are odd and no flood");
        for _ in 0..20_000 {
            flood.came(&frame(0x8, 4), 100_000);
            flood.went(256);
        }
        assert_eq!(flood.verdict, None);
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let bytes: Vec<u8> =
            [PREFACE.to_vec(), flagged(0x4, 0, 0, 18), frame(0x1, 300), frame(0x0, 4_096), frame(0x6, 8)].concat();
        let whole = {
            let mut flood = Frames::new(0);
            assert_eq!(flood.came(&bytes, 0), (bytes.len(), None));
            flood.account
        };
        assert_eq!(whole, MOST - 20);
        for size in [1, 2, 7, 9, 10, 100] {
            let mut flood = Frames::new(0);
            bytes.chunks(size).for_each(|piece| assert_eq!(flood.came(piece, 0).1, None));
            assert_eq!((flood.account, flood.have, flood.skip), (whole, 0, 0), "in pieces of {size}");
        }
    }

    #[test]
    fn many_frames_are_seen_in_turns_however_they_are_cut() {
        let frames =
            [PREFACE.to_vec(), [frame(0x1, 30), frame(0x8, 4), frame(0x0, 100)].concat().repeat(TURN)].concat();
        for size in [10, 1_000, frames.len()] {
            let (mut all, mut turns) = (Frames::new(0), Vec::new());
            for mut piece in frames.chunks(size) {
                while !piece.is_empty() {
                    let (count, verdict) = all.came(piece, 0);
                    assert!(count > 0 && verdict.is_none());
                    turns.push(count);
                    piece = &piece[count..];
                }
            }
            assert_eq!((all.have, all.skip, all.begun), (0, 0, 1));
            let most = PREFACE.len() + TURN * (HEADER + 100);
            assert!(turns.len() >= 3 && turns.iter().all(|count| *count <= most), "{turns:?}");
        }
    }

    #[test]
    fn what_stands_before_the_frame_that_ends_a_connection_may_be_seen() {
        let (first, wrong) = ([PREFACE.to_vec(), flagged(kind::SETTINGS, 0, 0, 18)].concat(), frame(kind::PING, 7));
        let bytes = [&*first, &wrong].concat();
        for cut in 0..=bytes.len() {
            let mut all = Frames::new(0);
            let (before, behind) = bytes.split_at(cut);
            let seen = match all.came(before, 0) {
                (seen, Some(_)) => seen,
                (seen, None) => {
                    let (more, verdict) = all.came(behind, 0);
                    assert_eq!((seen, verdict), (cut, Some(Reason::FRAME_SIZE_ERROR)));
                    cut + more
                }
            };
            // A part of its header may have gone before it was known.
            assert!((first.len()..first.len() + HEADER).contains(&seen), "{seen} at {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_called_by_its_name() {
        let after = |frames: &[Vec<u8>]| {
            let mut all = Frames::new(0);
            all.came(PREFACE, 0);
            frames.iter().map(|frame| all.came(frame, 0).1).last().unwrap()
        };
        let setting = |number: u8, value: u32| {
            let mut frame = flagged(kind::SETTINGS, 0, 0, 6);
            frame[10] = number;
            frame[11..].copy_from_slice(&value.to_be_bytes());
            frame
        };
        let whole = END_HEADERS | END_STREAM;
        let data = |flags, stream| flagged(kind::DATA, flags, stream, 8);
        let goes_on = |flags, stream| flagged(kind::CONTINUATION, flags, stream, 8);
        for (kind, length) in
            [(kind::PING, 7), (kind::PRIORITY, 4), (kind::RST_STREAM, 3), (kind::WINDOW_UPDATE, 3), (kind::SETTINGS, 3)]
        {
            assert_eq!(after(&[flagged(kind, 0, 0, length)]), Some(Reason::FRAME_SIZE_ERROR), "{kind}");
        }
        for (frames, verdict) in [
            (vec![flagged(kind::SETTINGS, ACK, 0, 6)], Some(Reason::FRAME_SIZE_ERROR)),
            (vec![flagged(kind::SETTINGS, ACK, 0, 0)], None),
            (vec![setting(4, 0x7fff_ffff)], None),
            (vec![setting(4, 0x8000_0000)], Some(Reason::FLOW_CONTROL_ERROR)),
            (vec![setting(3, 0xffff_ffff)], None),
            (vec![flagged(kind::PUSH_PROMISE, 0, 1, 8)], Some(Reason::PROTOCOL_ERROR)),
            (vec![request(whole, 1), data(0, 1)], Some(Reason::STREAM_CLOSED)),
            (vec![request(whole, 1), request(whole, 1)], Some(Reason::STREAM_CLOSED)),
            (vec![request(whole, 1), request(whole, 3), request(whole, 1)], Some(Reason::STREAM_CLOSED)),
            (vec![request(whole, 3), request(whole, 1)], None),
            (vec![request(whole, 1), data(0, 0)], None),
            (vec![request(END_HEADERS, 1), data(0, 1), data(END_STREAM, 1), data(0, 1)], Some(Reason::STREAM_CLOSED)),
            (vec![request(END_HEADERS, 1), data(0, 1), request(whole, 1)], None),
            (
                vec![request(END_HEADERS, 1), flagged(kind::RST_STREAM, 0, 1, 4), data(0, 1)],
                Some(Reason::STREAM_CLOSED),
            ),
            (vec![request(0, 1), goes_on(0, 1), goes_on(END_HEADERS, 1), request(whole, 3)], None),
            (vec![request(0, 1), data(0, 1)], Some(Reason::PROTOCOL_ERROR)),
            (vec![request(0, 1), goes_on(END_HEADERS, 3)], Some(Reason::PROTOCOL_ERROR)),
            (vec![request(whole, 1), goes_on(END_HEADERS, 1)], Some(Reason::PROTOCOL_ERROR)),
            (vec![flagged(0xbe, 0, 0, 9), request(whole, 1)], None),
        ] {
            assert_eq!(after(&frames), verdict, "{frames:?}");
        }
    }
}
