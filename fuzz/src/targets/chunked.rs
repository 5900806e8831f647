//! A chunked body: the same however it is cut, and what is passed on is the body that came, as another decoder reads it.

use super::super::{
    http1::{BadChunk, Chunked, Output},
    input::{Input, pieces},
    readers::strict::{Body, chunked},
};

/// What became of all the bytes.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    sent: Vec<u8>,
    /// The lines of trailers, where they are told apart.
    lines: Vec<u8>,
    consumed: usize,
    content: u64,
    done: bool,
}

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let bytes = input.rest();
    let read = chunked(bytes);
    for output in [Output::Chunked, Output::Plain, Output::Parts] {
        let whole = pass([bytes].into_iter(), output);
        let cut = pass(pieces(bytes, seed), output);
        assert_eq!(cut, whole, "{output:?}");
        let Ok(passed) = whole else { continue };
        if !passed.done {
            assert!(!matches!(read, Body::Whole { .. }), "the body has ended");
            continue;
        }
        let Body::Whole { data, len, .. } = &read else { panic!("another decoder does not take it: {read:?}") };
        assert_eq!((passed.consumed, passed.content), (*len, data.len() as u64));
        match output {
            Output::Plain => assert_eq!(&passed.sent, data),
            Output::Parts => {
                assert_eq!(&passed.sent, data);
                assert_is_trailers(&passed.lines);
            }
            Output::Chunked => {
                let Body::Whole { data: went, len, trailers } = chunked(&passed.sent) else {
                    panic!("not a body any more: {}", passed.sent.escape_ascii())
                };
                assert_eq!((&went, len), (data, passed.sent.len()));
                assert_is_trailers(&trailers);
            }
        }
    }
}

fn pass<'b>(pieces: impl Iterator<Item = &'b [u8]>, output: Output) -> Result<Passed, BadChunk> {
    let mut decoder = Chunked::default();
    let (mut held, mut sent, mut lines, mut consumed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for piece in pieces {
        held.extend_from_slice(piece);
        if decoder.is_done() {
            continue;
        }
        let step = decoder.advance(&mut held, output)?;
        assert!(step.produced <= step.consumed && step.consumed <= held.len() && step.trailing <= step.produced);
        assert_eq!(step.done, decoder.is_done());
        sent.extend_from_slice(&held[..step.produced - step.trailing]);
        lines.extend_from_slice(&held[step.produced - step.trailing..step.produced]);
        consumed += step.consumed;
        held.drain(..step.consumed);
        assert!(step.done || held.len() < crate::http1::chunked::MAX_LINE, "a caller would wait for room");
    }
    Ok(Passed { sent, lines, consumed, content: decoder.content(), done: decoder.is_done() })
}

/// Whole lines, none of which says anything that a head alone may say.
fn assert_is_trailers(lines: &[u8]) {
    assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
        for late in [&b"content-length"[..], b"transfer-encoding", b"host", b"cookie", b"connection", b"authorization"]
        {
            assert_ne!(name, late);
        }
    }
}
