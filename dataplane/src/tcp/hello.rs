//! The name that a client asks for in TLS that is passed on unread (SNI, RFC 6066 section 3).

use rustls::server::Acceptor;

/// What a client's first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// More has to come.
    Partial,
    /// It asks for this name.
    Name(Box<str>),
    /// It asks for none, or does not speak TLS.
    Nameless,
}

/// Reads a hello as it comes.
#[derive(Default)]
pub(super) struct Reader {
    acceptor: Acceptor,
    /// So many bytes have been looked at.
    read: usize,
}

impl Reader {
    /// `bytes` are all that have come since the beginning.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Hello {
        while self.read < bytes.len() {
            match self.acceptor.read_tls(&mut &bytes[self.read..]) {
                Ok(count) if count > 0 => self.read += count,
                Ok(_) | Err(_) => return Hello::Nameless,
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(Into::into);
                    return name.map_or(Hello::Nameless, Hello::Name);
                }
                Err(_) => return Hello::Nameless,
            }
        }
        Hello::Partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Path, spec::PoolTls};
    use proptest::prelude::*;
    use rustls::ClientConnection;

    /// The first flight of a client that asks for this name.
    fn hello(name: &str) -> Vec<u8> {
        let settings = PoolTls { verify: false, ..PoolTls::default() };
        let config = certificates::trust(&settings, &Path::default(), &[b"h2"]).unwrap();
        let mut client = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
        let mut out = Vec::new();
        client.write_tls(&mut out).unwrap();
        out
    }

    /// The same bytes in records of so many.
    fn cut(hello: &[u8], piece: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&hello[..3], &length, part].concat()
        };
        hello[5..].chunks(piece).flat_map(record).collect()
    }

    fn read_in(bytes: &[u8], piece: usize) -> Hello {
        let mut reader = Reader::default();
        let ends = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
        let mut answers = ends.map(|end| reader.read(&bytes[..end]));
        answers.find(|answer| *answer != Hello::Partial).unwrap_or(Hello::Partial)
    }

    #[test]
    fn the_name_is_found_however_the_hello_comes() {
        let whole = hello("shop.example.com");
        for record in [usize::MAX, 200, 7, 1] {
            let bytes = if record == usize::MAX { whole.clone() } else { cut(&whole, record) };
            for piece in [bytes.len(), 100, 1] {
                assert_eq!(read_in(&bytes, piece), Hello::Name("shop.example.com".into()), "{record} {piece}");
            }
            assert_eq!(read_in(&bytes[..bytes.len() - 1], 50), Hello::Partial);
        }
        assert_eq!(read_in(&hello("192.0.2.1"), 100), Hello::Nameless, "an address is no name");
    }

    #[test]
    fn what_is_no_hello_has_no_name() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", &[0x17, 3, 3, 0, 2, 0, 0], &[0x80, 0x2e, 1, 3, 1]]
        {
            assert_eq!(read_in(bytes, 1), Hello::Nameless, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn rubbish_does_no_harm(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8, piece in 1usize..300) {
            read_in(&bytes, piece);
            bytes = hello("shop.example.com");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            read_in(&bytes, piece);
        }
    }
}
