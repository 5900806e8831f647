//! The PROXY protocol: the same header however it comes, nothing of what is behind it, and bounds on what is waited for.

#[path = "../../../dataplane/src/proxy/header.rs"]
mod header;

use super::super::input::{Input, pieces};
use control::spec::ProxyVersion;
use header::{Parsed, announce, belongs, parse};

/// No header is longer; see `MAX_HEADER` there.
const MOST: usize = 4_096;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.byte();
    let bytes = input.rest();
    let whole = read([bytes].into_iter());
    assert_eq!(read(pieces(bytes, seed)), whole);
    assert_eq!(read(bytes.chunks(1)), whole);
    let (Parsed::Complete(Some(source)), taken) = whole else { return };
    assert!(taken <= bytes.len());
    for (version, destination) in [(ProxyVersion::V1, "192.0.2.9:80"), (ProxyVersion::V2, "[2001:db8::9]:80")] {
        let destination = destination.parse().expect("it is an address");
        let mut told = announce(version, source, destination);
        let len = told.len();
        told.extend_from_slice(bytes);
        let (Parsed::Complete(Some(again)), taken) = read(pieces(&told, seed)) else {
            panic!("what is written can't be read: {}", told.escape_ascii())
        };
        assert_eq!((again.ip().to_canonical(), again.port()), (source.ip().to_canonical(), source.port()));
        assert_eq!(taken, len);
    }
}

/// What is read of bytes that come in these pieces, and how many were taken. As `receive` does it.
fn read<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Parsed, usize) {
    let mut header = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            let taken = belongs(&header, piece);
            assert!(taken <= piece.len());
            let (ours, rest) = piece.split_at(taken);
            header.extend_from_slice(ours);
            piece = rest;
            match parse(&header) {
                Parsed::Partial if taken > 0 => assert!(header.len() < MOST, "it waits for more than there may be"),
                // Nothing is taken: it is not served.
                Parsed::Partial | Parsed::Bad => return (Parsed::Bad, 0),
                told @ Parsed::Complete(_) => return (told, header.len()),
            }
        }
    }
    (Parsed::Partial, header.len())
}
