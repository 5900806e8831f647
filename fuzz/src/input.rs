//! What a target takes off the front of its input before the bytes that it is about: settings, and where to cut.

/// Bytes that are taken from the front; zeros where there are none any more.
#[derive(Clone, Copy, Debug)]
pub struct Input<'d> {
    rest: &'d [u8],
}

impl<'d> Input<'d> {
    pub fn new(data: &'d [u8]) -> Self {
        Self { rest: data }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| (number << 8) | u64::from(self.byte()))
    }

    pub fn rest(self) -> &'d [u8] {
        self.rest
    }
}

/// Switches that one byte sets.
#[derive(Clone, Copy, Debug)]
pub struct Switches(pub u8);

impl Switches {
    /// The next switch.
    pub fn take(&mut self) -> bool {
        let on = self.0 & 1 != 0;
        self.0 >>= 1;
        on
    }
}

/// Pieces of `bytes` whose lengths follow from `seed`: mostly short ones, some long.
pub fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed) | 0x100);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let drawn = (state >> 16) as usize;
        let len = if seed == 0 { 1 } else { 1 + drawn % if drawn & 0x300 == 0 { 200 } else { 9 } };
        let (piece, tail) = rest.split_at(len.min(rest.len()));
        rest = tail;
        Some(piece)
    })
}

/// Ends of prefixes of so many bytes that are worth a look: all of a short input, of a long one some sixty.
pub fn cuts(len: usize, seed: u8) -> impl Iterator<Item = usize> {
    let step = (len / 60).max(1);
    (usize::from(seed) % step..len).step_by(step)
}
