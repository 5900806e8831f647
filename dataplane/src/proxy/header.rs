//! Headers of both versions, read and written.

use control::spec::ProxyVersion;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Behind it stand version and command, family, and two bytes of length.
const FIXED: usize = 16;
/// The longest header of version 1, with its line end.
const MAX_LINE: usize = 107;
/// The longest of version 2: addresses and what is told beside them, which we pass over.
const MAX_HEADER: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Partial,
    /// From whom the connection is; absent where the proxy speaks for itself, as in its health checks, or does not know.
    Complete(Option<SocketAddr>),
    Bad,
}

/// How many of the bytes that come next belong to the header of which `header` has come; 0 where none do.
pub(super) fn belongs(header: &[u8], next: &[u8]) -> usize {
    let first = header.first().or(next.first());
    let wanted = match first {
        Some(b'P') => memchr::memchr(b'\n', next).map_or(next.len(), |at| at + 1),
        Some(_) if header.len() < FIXED => FIXED - header.len(),
        Some(_) => length(header).saturating_sub(header.len()),
        None => 0,
    };
    wanted.min(next.len())
}

/// Of a header of version 2, of which the fixed part is there.
fn length(header: &[u8]) -> usize {
    FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]))
}

/// `header` holds no more than the header.
pub(super) fn parse(header: &[u8]) -> Parsed {
    match header.first() {
        None => Parsed::Partial,
        Some(b'P') => line(header),
        Some(_) => binary(header),
    }
}

fn line(header: &[u8]) -> Parsed {
    let start = b"PROXY ";
    let begins = start.iter().zip(header).all(|(wanted, byte)| wanted == byte);
    let Some(line) = header.strip_suffix(b"\r\n") else {
        let may_go_on = begins && header.len() < MAX_LINE && !header.contains(&b'\n');
        return if may_go_on { Parsed::Partial } else { Parsed::Bad };
    };
    match line.strip_prefix(start).and_then(|rest| std::str::from_utf8(rest).ok()).and_then(told) {
        Some(source) if header.len() <= MAX_LINE => Parsed::Complete(source),
        Some(_) | None => Parsed::Bad,
    }
}

fn told(text: &str) -> Option<Option<SocketAddr>> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is not to be looked at.
        return Some(None);
    }
    let (source, _, port, _) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let source: IpAddr = source.parse().ok()?;
    let is_so = (family == "TCP4" && source.is_ipv4()) || (family == "TCP6" && source.is_ipv6());
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number)?;
    (is_so && words.next().is_none()).then(|| Some(SocketAddr::new(source, port)))
}

fn binary(header: &[u8]) -> Parsed {
    if !SIGNATURE.iter().zip(header).all(|(wanted, byte)| wanted == byte) {
        return Parsed::Bad;
    }
    if header.len() < FIXED {
        return Parsed::Partial;
    }
    let (command, family) = (header[12], header[13]);
    if !matches!(command, 0x20 | 0x21) || length(header) > MAX_HEADER {
        return Parsed::Bad;
    }
    if header.len() < length(header) {
        return Parsed::Partial;
    }
    if command == 0x20 {
        return Parsed::Complete(None);
    }
    let told = &header[FIXED..];
    let port = |at: usize| u16::from_be_bytes([told[at], told[at + 1]]);
    match family {
        0x11 if told.len() >= 12 => {
            let octets: [u8; 4] = [told[0], told[1], told[2], told[3]];
            Parsed::Complete(Some((octets, port(8)).into()))
        }
        0x21 if told.len() >= 36 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&told[..16]);
            Parsed::Complete(Some((octets, port(32)).into()))
        }
        0x11 | 0x21 => Parsed::Bad,
        // Another family, such as that of Unix sockets.
        _ => Parsed::Complete(None),
    }
}

/// The header that tells a backend of a client at `source`, which has come to `destination`.
pub(crate) fn announce(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source_ip, destination_ip) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (IpAddr::V4(source), IpAddr::V4(destination)),
        (source, destination) => (IpAddr::V6(wide(source)), IpAddr::V6(wide(destination))),
    };
    let (source_port, destination_port) = (source.port(), destination.port());
    if version == ProxyVersion::V1 {
        let family = if source_ip.is_ipv4() { "TCP4" } else { "TCP6" };
        return format!("PROXY {family} {source_ip} {destination_ip} {source_port} {destination_port}\r\n")
            .into_bytes();
    }
    let mut header = SIGNATURE.to_vec();
    header.push(0x21);
    match (source_ip, destination_ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend_from_slice(&[0x11, 0, 12]);
            header.extend_from_slice(&source.octets());
            header.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            header.extend_from_slice(&[0x21, 0, 36]);
            header.extend_from_slice(&wide(source).octets());
            header.extend_from_slice(&wide(destination).octets());
        }
    }
    header.extend_from_slice(&source_port.to_be_bytes());
    header.extend_from_slice(&destination_port.to_be_bytes());
    header
}

fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, told: &[u8]) -> Vec<u8> {
        let length = u16::try_from(told.len()).unwrap().to_be_bytes();
        [SIGNATURE, [command, family].as_slice(), &length, told].concat()
    }

    #[test]
    fn headers_of_both_versions() {
        let v4 = Some("192.0.2.1:56324".parse().unwrap());
        let v6 = Some("[2001:db8::1]:56324".parse().unwrap());
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 220, 4, 1, 187];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        (six[15], six[32], six[33]) = (1, 220, 4);
        let with_more = [four.as_slice(), &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (header, parsed) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(), Parsed::Complete(v4)),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n".to_vec(), Parsed::Complete(v6)),
            (b"PROXY UNKNOWN\r\n".to_vec(), Parsed::Complete(None)),
            (b"PROXY UNKNOWN ffff::1 x y z w\r\n".to_vec(), Parsed::Complete(None)),
            (b"PROXY TCP4 2001:db8::1 10.0.0.1 56324 443\r\n".to_vec(), Parsed::Bad),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 +6324 443\r\n".to_vec(), Parsed::Bad),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n".to_vec(), Parsed::Bad),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443 x\r\n".to_vec(), Parsed::Bad),
            (b"PROXY TCP4 192.0.2.1  10.0.0.1 56324 443\r\n".to_vec(), Parsed::Bad),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec(), Parsed::Bad),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\n".to_vec(), Parsed::Bad),
            (b"POST / HTTP/1.1\r\n".to_vec(), Parsed::Bad),
            (b"GET / HTTP/1.1\r\n".to_vec(), Parsed::Bad),
            ([b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100], b"\r\n"].concat(), Parsed::Bad),
            (v2(0x21, 0x11, &four), Parsed::Complete(v4)),
            (v2(0x21, 0x11, &with_more), Parsed::Complete(v4)),
            (v2(0x21, 0x21, &six), Parsed::Complete(v6)),
            (v2(0x20, 0x11, &four), Parsed::Complete(None)),
            (v2(0x20, 0, &[]), Parsed::Complete(None)),
            (v2(0x21, 0x31, &[0; 216]), Parsed::Complete(None)),
            (v2(0x21, 0x11, &four[..11]), Parsed::Bad),
            (v2(0x22, 0x11, &four), Parsed::Bad),
            (v2(0x11, 0x11, &four), Parsed::Bad),
            (v2(0x21, 0x11, &[0; 5_000]), Parsed::Bad),
        ] {
            assert_eq!(parse(&header), parsed, "{}", header.escape_ascii());
        }
    }

    proptest! {
        /// However the bytes come, the header is taken and not a byte of what is behind it.
        #[test]
        fn a_header_is_taken_whole_and_nothing_behind_it(
            v1: bool, source: SocketAddr, destination: SocketAddr, behind: Vec<u8>, pieces in prop::collection::vec(1usize..40, 1..20),
        ) {
            let version = if v1 { ProxyVersion::V1 } else { ProxyVersion::V2 };
            let written = announce(version, source, destination);
            let mut rest = [written.as_slice(), &behind].concat();
            let (mut header, mut pieces) = (Vec::new(), pieces.iter().cycle());
            while parse(&header) == Parsed::Partial {
                let piece = rest.len().min(*pieces.next().unwrap());
                prop_assert!(piece > 0);
                let take = belongs(&header, &rest[..piece]);
                prop_assert!(take > 0);
                header.extend(rest.drain(..take));
            }
            prop_assert_eq!(&rest, &behind);
            let Parsed::Complete(Some(told)) = parse(&header) else { panic!("{}", header.escape_ascii()) };
            prop_assert_eq!((told.ip().to_canonical(), told.port()), (source.ip().to_canonical(), source.port()));
        }

        #[test]
        fn rubbish_is_refused_or_waited_for_within_bounds(bytes: Vec<u8>, begins in prop::sample::select(vec![&b"PROXY "[..], SIGNATURE, b""])) {
            let mut rest = [begins, &bytes].concat();
            let mut header = Vec::new();
            while parse(&header) == Parsed::Partial && !rest.is_empty() {
                let take = belongs(&header, &rest);
                prop_assert!(take > 0);
                header.extend(rest.drain(..take));
                prop_assert!(header.len() <= MAX_HEADER || parse(&header) == Parsed::Bad);
            }
        }
    }
}
