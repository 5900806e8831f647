use crate::http1::{BadChunk, BodyLength, Chunked, Output, Step};

/// What is still to come of a body, in either direction.
pub(crate) enum Body {
    Done,
    Length(u64),
    Chunked { decoder: Chunked, output: Output },
    UntilClose,
}

/// A part of a body at the front of a buffer: `send` bytes are to be sent, `consumed` are then dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) send: usize,
    /// Bytes of trailers behind those to be sent, where they are wanted apart.
    pub(crate) trailing: usize,
    pub(crate) consumed: usize,
}

impl Body {
    /// `output` is what the receiver gets of a chunked body.
    pub(crate) fn new(length: BodyLength, output: Output) -> Self {
        match length {
            BodyLength::None | BodyLength::Length(0) => Self::Done,
            BodyLength::Length(length) => Self::Length(length),
            BodyLength::Chunked => Self::Chunked { decoder: Chunked::default(), output },
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// The same, of which the receiver gets no trailer that it could take for the field of this name.
    pub(super) fn without(self, claimed: Option<Box<str>>) -> Self {
        match self {
            Self::Chunked { decoder, output } => Self::Chunked { decoder: decoder.without(claimed), output },
            Self::Done | Self::Length(_) | Self::UntilClose => self,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Deals with what the buffer holds.
    ///
    /// # Errors
    /// Where it is not a chunked body, or one that has more than `limit` bytes of data.
    pub(crate) fn take(&mut self, buffer: &mut [u8], limit: u64) -> Result<Piece, BadBody> {
        let whole = |count| Piece { send: count, trailing: 0, consumed: count };
        let (done, piece) = match self {
            Self::Done => return Ok(whole(0)),
            Self::UntilClose => return Ok(whole(buffer.len())),
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= count as u64;
                (*left == 0, whole(count))
            }
            Self::Chunked { decoder, output } => {
                let step = decoder.advance(buffer, *output).map_err(BadBody::Chunk)?;
                if decoder.content() > limit {
                    return Err(BadBody::TooLarge);
                }
                let Step { produced, trailing, consumed, done } = step;
                (done, Piece { send: produced - trailing, trailing, consumed })
            }
        };
        if done {
            *self = Self::Done;
        }
        Ok(piece)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadBody {
    Chunk(BadChunk),
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::holding;

    const NO_LIMIT: u64 = u64::MAX;

    /// What is sent of a body that comes in these pieces, and what is left over behind it.
    fn pass(length: BodyLength, output: Output, pieces: &[&[u8]], limit: u64) -> Result<(Vec<u8>, Vec<u8>), BadBody> {
        let mut body = Body::new(length, output);
        let (mut sent, mut left) = (Vec::new(), Vec::new());
        for bytes in pieces {
            let mut buffer = holding(&[&left, *bytes].concat());
            let piece = body.take(buffer.bytes_mut(), limit)?;
            assert!(piece.send <= piece.consumed);
            sent.extend_from_slice(&buffer.bytes()[..piece.send]);
            buffer.consume(piece.consumed);
            left = buffer.bytes().to_vec();
        }
        assert!(body.is_done() || matches!(length, BodyLength::UntilClose));
        Ok((sent, left))
    }

    #[test]
    fn each_kind_ends_where_it_says_and_takes_nothing_of_what_follows() {
        let chunked: &[&[u8]] = &[b"3;x=y\r\nab", b"c\r\n0\r\n", b"\r\nnext"];
        for (length, output, pieces, sent, left) in [
            (BodyLength::None, Output::Chunked, &[&b"next"[..]][..], &b""[..], &b"next"[..]),
            (BodyLength::Length(0), Output::Chunked, &[b"next"], b"", b"next"),
            (BodyLength::Length(5), Output::Chunked, &[b"he", b"", b"llonext"], b"hello", b"next"),
            (BodyLength::Chunked, Output::Chunked, chunked, b"3\r\nabc\r\n0\r\n\r\n", b"next"),
            (BodyLength::Chunked, Output::Plain, chunked, b"abc", b"next"),
            (BodyLength::UntilClose, Output::Chunked, &[b"all", b" of it"], b"all of it", b""),
        ] {
            let passed = pass(length, output, pieces, NO_LIMIT).unwrap();
            assert_eq!(passed, (sent.to_vec(), left.to_vec()), "{length:?} {output:?}");
        }
    }

    #[test]
    fn a_body_without_bytes_is_done_before_it_is_read() {
        assert!(Body::new(BodyLength::None, Output::Plain).is_done());
        assert!(Body::new(BodyLength::Length(0), Output::Plain).is_done());
        for length in [BodyLength::Length(1), BodyLength::Chunked, BodyLength::UntilClose] {
            assert!(!Body::new(length, Output::Plain).is_done());
        }
    }

    #[test]
    fn the_limit_is_on_the_data_of_chunks_and_not_on_their_framing() {
        let pieces: &[&[u8]] = &[b"3\r\nabc\r\n", b"1;extension\r\nd\r\n", b"0\r\n\r\n"];
        assert!(pass(BodyLength::Chunked, Output::Chunked, pieces, 4).is_ok());
        assert_eq!(pass(BodyLength::Chunked, Output::Chunked, pieces, 3), Err(BadBody::TooLarge));
        let broken: &[&[u8]] = &[b"3\r\nabcd\r\n"];
        assert_eq!(pass(BodyLength::Chunked, Output::Chunked, broken, 9), Err(BadBody::Chunk(BadChunk::DataEnd)));
    }
}
