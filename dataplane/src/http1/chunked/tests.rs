use super::*;
use proptest::prelude::*;

/// Feeds `input` in pieces that end at `cuts`, as a worker does: what was not consumed stays in front of what is read
/// next. Returns what was passed on and what was left over.
fn decode(input: &[u8], cuts: &[usize], output: Output) -> Result<(Vec<u8>, Vec<u8>, u64), BadChunk> {
    let mut decoder = Chunked::default();
    let (mut passed, mut held, mut from) = (Vec::new(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([input.len()]) {
        held.extend_from_slice(&input[from..to]);
        from = to;
        let step = decoder.advance(&mut held, output)?;
        assert!(step.produced <= step.consumed && step.consumed <= held.len());
        assert_eq!(step.done, decoder.is_done());
        passed.extend_from_slice(&held[..step.produced]);
        held.drain(..step.consumed);
        assert!(held.len() < MAX_LINE || step.done, "a caller with that much room can always go on");
        if step.done {
            held.extend_from_slice(&input[from..]);
            break;
        }
    }
    Ok((passed, held, decoder.content()))
}

fn whole(input: &[u8], output: Output) -> Result<(Vec<u8>, Vec<u8>, u64), BadChunk> {
    decode(input, &[], output)
}

/// Input, what is passed on of it as chunks and as data, what is left over, and why.
type Taken = (&'static [u8], &'static [u8], &'static [u8], &'static [u8], &'static str);

#[test]
fn bodies_that_are_taken() {
    let cases: [Taken; 17] = [
        (b"0\r\n\r\n", b"0\r\n\r\n", b"", b"", "RFC 9112 §7.1"),
        (b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", "one chunk"),
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", b"", "borders are kept"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"", "hexadecimal"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"", "either case"),
        (b"0005\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", "zeros go"),
        (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", "extensions go: §7.1.1"),
        (b"5 ;a=\"\\\"\"\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", "extensions go"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b"", "data is data"),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", b"", "data is data"),
        (b"0\r\nX: y\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"", "trailers: §7.1.2"),
        (b"0\r\nHost: a\r\nX: y\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"", "forbidden ones go: RFC 9110 §6.5.1"),
        (b"0\r\nX: y\r\nContent-Length: 5\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"", "forbidden ones go"),
        (b"0\r\nSet-Cookie: a=b\r\n\r\n", b"0\r\n\r\n", b"", b"", "forbidden ones go"),
        (b"0\r\n\r\nGET / HTTP/1.1\r\n", b"0\r\n\r\n", b"", b"GET / HTTP/1.1\r\n", "the next one stays"),
        (b"1\r\na\r\n0\r\n\r\n\r\n", b"1\r\na\r\n0\r\n\r\n", b"a", b"\r\n", "the end is the end"),
        (b"1\r\n\0\r\n0\r\n\r\n", b"1\r\n\0\r\n0\r\n\r\n", b"\0", b"", "any byte"),
    ];
    for (input, chunked, plain, rest, why) in cases {
        let content = plain.len() as u64;
        for (output, expected) in [(Output::Chunked, chunked), (Output::Plain, plain)] {
            let (passed, left, count) = whole(input, output).unwrap();
            assert_eq!(passed.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{why}");
            assert_eq!((left.as_slice(), count), (rest, content), "{why}");
            every_split_tells_the_same(input, output);
        }
    }
}

#[test]
fn bodies_that_are_refused() {
    let long_extension = [b"1;", &[b'a'; 300][..], b"\r\nx\r\n0\r\n\r\n"].concat();
    let long_trailer = [b"0\r\nX: ", &[b'a'; MAX_LINE][..], b"\r\n\r\n"].concat();
    let many_trailers = [b"0\r\n", "X: y\r\n".repeat(2000).as_bytes(), b"\r\n"].concat();
    let extension_flood = [format!("1;{}\r\nx\r\n", "a".repeat(32)).repeat(1000).as_bytes(), b"0\r\n\r\n"].concat();
    let cases: [(&[u8], BadChunk, &str); 42] = [
        (b"\r\n", BadChunk::Size, "no size"),
        (b"x\r\n", BadChunk::Size, "no digit"),
        (b"-1\r\n", BadChunk::Size, "sign"),
        (b"+1\r\na\r\n", BadChunk::Size, "sign"),
        (b"0x1\r\na\r\n", BadChunk::Size, "prefix"),
        (b" 1\r\na\r\n", BadChunk::Size, "leading SP"),
        (b"\t1\r\na\r\n", BadChunk::Size, "leading HTAB"),
        (b"1 \r\na\r\n", BadChunk::Extension, "trailing SP"),
        (b"1\t\r\na\r\n", BadChunk::Extension, "trailing HTAB"),
        (b"1 1\r\na\r\n", BadChunk::Extension, "two sizes"),
        (b"1,1\r\na\r\n", BadChunk::Size, "list"),
        (b"1\0\r\na\r\n", BadChunk::Size, "NUL"),
        (b"1_0\r\na\r\n", BadChunk::Size, "separator"),
        (b"1.0\r\na\r\n", BadChunk::Size, "point"),
        (b"1\na\r\n0\r\n\r\n", BadChunk::Size, "bare LF ends no line"),
        (b"1\ra\r\n0\r\n\r\n", BadChunk::Size, "bare CR ends no line"),
        (b"1\r\r\na\r\n", BadChunk::Size, "CR CR LF"),
        (b"00000000000000001\r\na\r\n", BadChunk::Size, "17 digits"),
        (b"10000000000000001\r\na\r\n", BadChunk::Size, "1 to a reader that wraps"),
        (b"ffffffffffffffff\r\na\r\n", BadChunk::Size, "-1 to a signed reader"),
        (b"1;\r\na\r\n", BadChunk::Extension, "empty extension"),
        (b"1;a\nb\r\na\r\n", BadChunk::Size, "bare LF in an extension"),
        (b"1;a\rb\r\na\r\n", BadChunk::Extension, "bare CR in an extension"),
        (b"1;a\0\r\na\r\n", BadChunk::Extension, "NUL in an extension"),
        (b"1;a=\"\r\na\r\n0\r\n\r\n", BadChunk::Extension, "quotes don't hide a line's end"),
        (b"1;a=\"\\\r\na\r\n0\r\n\r\n", BadChunk::Extension, "nor do backslashes"),
        (&long_extension, BadChunk::TooLong, "one long extension"),
        (&extension_flood, BadChunk::TooLong, "many short extensions"),
        (b"1\r\nab\r\n", BadChunk::DataEnd, "more data than said"),
        (b"2\r\na\r\n0\r\n\r\n", BadChunk::DataEnd, "less data than said"),
        (b"1\r\na\n0\r\n\r\n", BadChunk::DataEnd, "bare LF after data"),
        (b"1\r\na\r0\r\n\r\n", BadChunk::DataEnd, "bare CR after data"),
        (b"1\r\na0\r\n\r\n", BadChunk::DataEnd, "nothing after data"),
        (b"0\r\nX : y\r\n\r\n", BadChunk::Trailer, "space before the colon"),
        (b"0\r\n X: y\r\n\r\n", BadChunk::Trailer, "folded"),
        (b"0\r\nX: y\r\n z\r\n\r\n", BadChunk::Trailer, "folded"),
        (b"0\r\nX\r\n\r\n", BadChunk::Trailer, "no colon"),
        (b"0\r\nX: a\0\r\n\r\n", BadChunk::Trailer, "NUL"),
        (b"0\r\nX: y\n\r\n", BadChunk::Trailer, "bare LF"),
        (b"0\r\n\n", BadChunk::Trailer, "bare LF for the end"),
        (&long_trailer, BadChunk::TooLong, "one long trailer"),
        (&many_trailers, BadChunk::TooLong, "many short trailers"),
    ];
    for (input, expected, why) in cases {
        for output in [Output::Chunked, Output::Plain] {
            assert_eq!(whole(input, output).err(), Some(expected), "{why}: {}", input.escape_ascii());
            if input.len() < 100 {
                every_split_tells_the_same(input, output);
            } else {
                let bytewise: Vec<usize> = (1..input.len()).collect();
                assert_eq!(decode(input, &bytewise, output).err(), Some(expected), "{why}, byte by byte");
            }
        }
    }
}

#[test]
fn extensions_are_free_as_long_as_the_data_outweighs_them() {
    let chunk = [b"400;key=\"a fairly long value\"\r\n", &[b'x'; 0x400][..], b"\r\n"].concat();
    let input = [chunk.repeat(1000), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(whole(&input, Output::Plain).unwrap().2, 1000 * 0x400);
}

/// Every way to cut a short input in two or three, and byte by byte.
#[track_caller]
fn every_split_tells_the_same(input: &[u8], output: Output) {
    let expected = whole(input, output);
    for first in 0..=input.len() {
        for second in first..=input.len() {
            assert_eq!(
                decode(input, &[first, second], output),
                expected,
                "{first}, {second}: {}",
                input.escape_ascii()
            );
        }
    }
    let bytewise: Vec<usize> = (0..input.len()).collect();
    assert_eq!(decode(input, &bytewise, output), expected, "byte by byte: {}", input.escape_ascii());
}

#[test]
fn incomplete_bodies_are_not_done() {
    let input = b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..input.len() {
        let mut decoder = Chunked::default();
        let step = decoder.advance(&mut input[..end].to_vec(), Output::Chunked).unwrap();
        assert!(!step.done, "{end}");
    }
}

#[test]
fn nothing_moves_while_nothing_is_left_out() {
    let input = b"5\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let mut buf = input.to_vec();
    let step = Chunked::default().advance(&mut buf, Output::Chunked).unwrap();
    assert_eq!(step, Step { consumed: input.len(), produced: input.len(), trailing: 0, done: true });
    assert_eq!(buf, input);
}

#[test]
fn a_size_that_will_never_be_reached_is_counted_down() {
    let mut decoder = Chunked::default();
    decoder.advance(&mut b"7fffffffffffffff\r\n".to_vec(), Output::Plain).unwrap();
    for _ in 0..10 {
        let step = decoder.advance(&mut [b'x'; 1000], Output::Plain).unwrap();
        assert_eq!(step, Step { consumed: 1000, produced: 1000, trailing: 0, done: false });
    }
    assert_eq!(decoder.content(), 10_000);
}

/// A body as a sender may write it, with the data in it.
fn body() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = prop_oneof![Just(""), Just(";a"), Just(" ; b=c"), Just(";d=\"e;\\\"\"")];
    let chunk = (prop::collection::vec(any::<u8>(), 1..200), 0..4usize, extension);
    let trailer =
        prop_oneof![Just("X-A: b\r\n"), Just("Host: c\r\n"), Just("X-Empty:\r\n"), Just("Content-Length: 1\r\n")];
    (prop::collection::vec(chunk, 0..12), prop::collection::vec(trailer, 0..4)).prop_map(|(chunks, trailers)| {
        let (mut encoded, mut data) = (Vec::new(), Vec::new());
        for (chunk, zeros, extension) in chunks {
            let size = format!("{}{:x}{extension}\r\n", "0".repeat(zeros), chunk.len());
            encoded.extend_from_slice(size.as_bytes());
            encoded.extend_from_slice(&chunk);
            encoded.extend_from_slice(b"\r\n");
            data.extend_from_slice(&chunk);
        }
        let end = format!("0\r\n{}\r\n", trailers.concat());
        encoded.extend_from_slice(end.as_bytes());
        (encoded, data)
    })
}

proptest! {
    #[test]
    fn any_split_of_a_body_tells_the_same((encoded, data) in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(encoded.len() + 1)).collect();
        cuts.sort_unstable();
        let (plain, rest, content) = decode(&encoded, &cuts, Output::Plain).unwrap();
        prop_assert_eq!(&plain, &data);
        prop_assert_eq!((rest.len(), content), (0, data.len() as u64));
        let (chunked, ..) = decode(&encoded, &cuts, Output::Chunked).unwrap();
        prop_assert_eq!(Ok((chunked.clone(), Vec::new(), content)), whole(&encoded, Output::Chunked));
        // What is passed on is a body again, of the same data, with nothing more to leave out.
        prop_assert_eq!(whole(&chunked, Output::Plain), Ok((data, Vec::new(), content)));
        prop_assert_eq!(whole(&chunked, Output::Chunked), Ok((chunked.clone(), Vec::new(), content)));
    }

    #[test]
    fn any_bytes_under_any_split_tell_the_same(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(prop::sample::select(b"0015af;=\" \t\r\n\r\n\r\nX:\\".to_vec()), 0..60),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        for output in [Output::Chunked, Output::Plain] {
            prop_assert_eq!(decode(&input, &cuts, output), whole(&input, output));
        }
    }
}
