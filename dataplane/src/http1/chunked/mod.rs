//! Chunked bodies (RFC 9112 §7.1), passed on in the buffer that they were read into.

mod size;
#[cfg(test)]
mod tests;
mod trailer;

use trailer::Trailer;

/// A size or trailer line that has not ended after so many bytes is refused, so a caller whose buffer holds as many never
/// waits for room.
pub const MAX_LINE: usize = 4096;

/// Bytes of all trailer lines of one body.
const MAX_TRAILERS: usize = 8 * 1024;

/// Bytes by which extensions may outweigh the data they came with. Below it they cost no more than data would; a flood
/// of them on tiny chunks, which is work for us and nothing for the backend, ends here.
const MAX_EXTENSION_EXCESS: u64 = 16 * 1024;

/// What is passed on of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Chunks with the same borders and plain sizes, no extensions, and the trailers that may be passed on.
    Chunked,
    /// The data alone, for a peer that knows no chunks.
    Plain,
    /// The data, and behind it the lines of the trailers that may be passed on, without the empty one.
    Parts,
}

/// What one call did: `consumed` bytes of the buffer are dealt with, its first `produced` bytes are to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub consumed: usize,
    pub produced: usize,
    /// Of the bytes produced, the last so many are lines of trailers; told for [`Output::Parts`] alone.
    pub trailing: usize,
    /// The body has ended; what follows `consumed` is another message.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChunk {
    Size,
    Extension,
    /// Data not followed by CRLF where its size says that it ends.
    DataEnd,
    Trailer,
    /// A line or all trailers above their limit, or extensions that outweigh the data.
    TooLong,
}

impl BadChunk {
    /// A word for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Size => "chunk-size",
            Self::Extension => "chunk-extension",
            Self::DataEnd => "chunk-end",
            Self::Trailer => "trailer",
            Self::TooLong => "chunk-too-long",
        }
    }
}

/// Where the decoder stands:
///
/// ```text
/// Size ──▶ Data ──▶ DataEnd ──▶ Size
///   └─ 0 ─▶ Trailers ──▶ Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Bytes of data to come; never 0.
    Data(u64),
    DataEnd,
    /// Bytes of trailers so far.
    Trailers(usize),
    Done,
}

/// The decoder of one chunked body.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    content: u64,
    extension_excess: u64,
    claimed: Option<Box<str>>,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, content: 0, extension_excess: 0, claimed: None }
    }
}

impl Chunked {
    /// The same, that leaves trailers out which could be taken for the field of this name.
    #[must_use]
    pub fn without(self, claimed: Option<Box<str>>) -> Self {
        Self { claimed, ..self }
    }

    /// Bytes of data so far, without their framing.
    pub fn content(&self) -> u64 {
        self.content
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes what `buf`, the encoded bytes read and not yet consumed, holds, and moves what is to be sent to its front.
    /// Nothing is moved while nothing is left out. An incomplete line stays unconsumed: the caller keeps it in front of
    /// what it reads next. After an error neither side's connection is of use.
    pub fn advance(&mut self, buf: &mut [u8], output: Output) -> Result<Step, BadChunk> {
        let mut pass = Pass { buf, consumed: 0, produced: 0, trailing: 0, output };
        while self.step(&mut pass)? {}
        let Pass { consumed, produced, trailing, .. } = pass;
        Ok(Step { consumed, produced, trailing, done: self.is_done() })
    }

    /// Returns whether there may be more to do.
    fn step(&mut self, pass: &mut Pass<'_>) -> Result<bool, BadChunk> {
        match self.state {
            State::Size => self.size(pass),
            State::Data(left) => Ok(self.data(left, pass)),
            State::DataEnd => self.data_end(pass),
            State::Trailers(used) => self.trailer(used, pass),
            State::Done => Ok(false),
        }
    }

    fn size(&mut self, pass: &mut Pass<'_>) -> Result<bool, BadChunk> {
        let Some(line) = line(pass.rest(), size::MAX_LINE, BadChunk::Size)? else { return Ok(false) };
        let parsed = size::parse(line)?;
        let extension = parsed.extension as u64;
        self.extension_excess = (self.extension_excess + extension).saturating_sub(parsed.size);
        if self.extension_excess > MAX_EXTENSION_EXCESS {
            return Err(BadChunk::TooLong);
        }
        pass.skip(parsed.zeros);
        pass.frame(parsed.digits);
        pass.skip(parsed.extension);
        pass.frame(2);
        self.state = if parsed.size == 0 { State::Trailers(0) } else { State::Data(parsed.size) };
        Ok(true)
    }

    fn data(&mut self, left: u64, pass: &mut Pass<'_>) -> bool {
        let here = (pass.rest().len() as u64).min(left);
        pass.keep(here as usize);
        self.content = self.content.saturating_add(here);
        self.state = if here == left { State::DataEnd } else { State::Data(left - here) };
        here == left
    }

    fn data_end(&mut self, pass: &mut Pass<'_>) -> Result<bool, BadChunk> {
        match pass.rest() {
            [b'\r', b'\n', ..] => {
                pass.frame(2);
                self.state = State::Size;
                Ok(true)
            }
            [] | [b'\r'] => Ok(false),
            _ => Err(BadChunk::DataEnd),
        }
    }

    fn trailer(&mut self, used: usize, pass: &mut Pass<'_>) -> Result<bool, BadChunk> {
        let Some(line) = line(pass.rest(), MAX_LINE, BadChunk::Trailer)? else { return Ok(false) };
        let whole = line.len() + 2;
        let used = used + whole;
        if used > MAX_TRAILERS {
            return Err(BadChunk::TooLong);
        }
        self.state = State::Trailers(used);
        match trailer::parse(line, self.claimed.as_deref()).ok_or(BadChunk::Trailer)? {
            Trailer::Forward => pass.trail(whole),
            Trailer::Drop => pass.skip(whole),
            Trailer::End => {
                pass.frame(whole);
                self.state = State::Done;
            }
        }
        Ok(true)
    }
}

/// The line at the front of `rest` without its CRLF; `None` when it has not ended yet.
fn line(rest: &[u8], max: usize, bad: BadChunk) -> Result<Option<&[u8]>, BadChunk> {
    let window = rest.get(..max).unwrap_or(rest);
    match memchr::memchr(b'\n', window).and_then(|lf| window.get(..lf)) {
        Some(line) => line.strip_suffix(b"\r").map(Some).ok_or(bad),
        None if window.len() == max => Err(BadChunk::TooLong),
        None => Ok(None),
    }
}

/// One pass over a buffer: what is kept moves down over what was left out.
struct Pass<'a> {
    buf: &'a mut [u8],
    consumed: usize,
    /// Never above `consumed`.
    produced: usize,
    trailing: usize,
    output: Output,
}

impl Pass<'_> {
    fn rest(&self) -> &[u8] {
        self.buf.get(self.consumed..).unwrap_or_default()
    }

    fn skip(&mut self, len: usize) {
        self.consumed += len;
    }

    /// Passes on the next `len` bytes, which the caller has seen in `rest`.
    fn keep(&mut self, len: usize) {
        let end = self.consumed + len;
        if self.produced != self.consumed && end <= self.buf.len() {
            self.buf.copy_within(self.consumed..end, self.produced);
        }
        self.consumed = end;
        self.produced += len;
    }

    /// Passes on `len` bytes that are framing and not data.
    fn frame(&mut self, len: usize) {
        match self.output {
            Output::Chunked => self.keep(len),
            Output::Plain | Output::Parts => self.skip(len),
        }
    }

    /// Passes on `len` bytes of a trailer.
    fn trail(&mut self, len: usize) {
        match self.output {
            Output::Chunked => self.keep(len),
            Output::Plain => self.skip(len),
            Output::Parts => {
                self.keep(len);
                self.trailing += len;
            }
        }
    }
}
