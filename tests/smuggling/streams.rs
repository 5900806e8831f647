//! Frames of HTTP/2 as a library would never write them: what the head says goes out as it stands.

use super::{
    backend::send,
    cases::{Frame, Refused, Reset, bytes},
    support::{PATIENCE, Scripted},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of DATA and HEADERS: nothing follows. Of SETTINGS: an acknowledgement.
const END: u8 = 1;
const WHOLE: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

type Fields = [(String, String)];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Each field as a literal that goes into no table (RFC 7541 section 6.2.2).
fn block(fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let text = bytes(text);
            match text.len() {
                length @ ..127 => out.push(length as u8),
                length => out.extend([127, (length - 127) as u8 & 0x7f | 0x80, ((length - 127) >> 7) as u8]),
            }
            out.extend(text);
        }
    }
    out
}

fn headers(fields: &Fields, stream: u32, ends: bool) -> Vec<u8> {
    frame(HEADERS, WHOLE | u8::from(ends), stream, &block(fields))
}

/// A connection with one request.
pub fn request(fields: &Fields, data: &[String], trailers: Option<&Fields>) -> Vec<u8> {
    let mut out = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    out.extend(headers(fields, 1, data.is_empty() && trailers.is_none()));
    for (at, piece) in data.iter().enumerate() {
        let ends = at + 1 == data.len() && trailers.is_none();
        out.extend(frame(DATA, u8::from(ends), 1, &bytes(piece)));
    }
    if let Some(trailers) = trailers {
        out.extend(headers(trailers, 1, true));
    }
    out
}

/// The next frame: its kind, flags, stream and payload.
fn next(stream: &mut impl Read) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((kind, flags, u32::from_be_bytes(id), payload))
}

/// Sends what is a connection with one request; what the client is told of it.
pub fn ask(address: &str, sent: &[u8], dribbles: bool) -> Refused {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // It may be answered before it is whole.
    drop(send(&mut stream, sent, dribbles));
    while let Some((kind, _, id, payload)) = next(&mut stream) {
        match (kind, id) {
            (HEADERS, 1) if status(&payload) >= 200 => return Refused::Status(status(&payload)),
            (RESET, 1) | (GOAWAY, _) => break,
            _ => {}
        }
    }
    Refused::Reset(Reset::Reset)
}

/// The status that a block begins with: one of the static table, or three digits in Huffman's code (RFC 7541, appendix A and B).
fn status(block: &[u8]) -> u16 {
    match *block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x48, 0x03, a, b, c, ..] => [a, b, c].iter().fold(0, |all, digit| all * 10 + u16::from(digit - b'0')),
        [0x08 | 0x48, length, ref code @ ..] if length & 0x80 != 0 => {
            let code = code[..usize::from(length & 0x7f)].iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
            let mut bits = u64::from(length & 0x7f) * 8;
            (0..3).fold(0, |all, _| {
                let short = code >> (bits - 5) & 0x1f;
                let (digit, length) = if short < 3 { (short, 5) } else { ((code >> (bits - 6) & 0x3f) - 0x16, 6) };
                bits -= length;
                all * 10 + digit as u16
            })
        }
        _ => panic!("no status in {block:x?}"),
    }
}

/// A backend that answers each stream with the frames that are said last.
pub struct Streams {
    scripted: Scripted,
    script: Arc<Mutex<Vec<Frame>>>,
}

impl Streams {
    pub fn start() -> Self {
        let script = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&script);
        Self { scripted: Scripted::start(move |stream| serve(stream, &own)), script }
    }

    pub fn address(&self) -> SocketAddr {
        self.scripted.address()
    }

    pub fn answers(&self, frames: &[Frame]) {
        *self.script.lock().unwrap() = frames.to_vec();
    }
}

fn serve(mut stream: TcpStream, script: &Mutex<Vec<Frame>>) {
    let mut preface = [0; PREFACE.len()];
    if stream.read_exact(&mut preface).is_err() || stream.write_all(&frame(SETTINGS, 0, 0, &[])).is_err() {
        return;
    }
    while let Some((kind, flags, id, _)) = next(&mut stream) {
        let answer = match kind {
            SETTINGS if flags & END == 0 => frame(SETTINGS, END, 0, &[]),
            HEADERS => {
                let frames = script.lock().unwrap().clone();
                frames.iter().flat_map(|each| answer(each, id)).collect()
            }
            _ => continue,
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer(each: &Frame, id: u32) -> Vec<u8> {
    match (&each.fields, &each.data, each.reset) {
        (Some(fields), None, None) => headers(fields, id, each.ends),
        (None, Some(data), None) => frame(DATA, u8::from(each.ends), id, &bytes(data)),
        (None, None, Some(code)) => frame(RESET, 0, id, &code.to_be_bytes()),
        _ => panic!("one of the three: {each:?}"),
    }
}
