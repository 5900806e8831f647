//! Sums of counts over the last minutes. Two rings of rows: ten seconds each for the short windows, a minute each for the
//! hour. A window is made of whole rows and the one that is being filled, so that it is up to one row longer than it says.

/// A length of time over which sums are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Minute,
    FiveMinutes,
    Hour,
}

impl Window {
    pub(crate) const ALL: [Self; 3] = [Self::Minute, Self::FiveMinutes, Self::Hour];

    pub(crate) const fn minutes(self) -> u64 {
        match self {
            Self::Minute => 1,
            Self::FiveMinutes => 5,
            Self::Hour => 60,
        }
    }

    /// As labels of metrics have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
        }
    }
}

/// Milliseconds of a row, and rows before the one that is being filled.
const FINE: (u64, usize) = (10_000, 30);
const COARSE: (u64, usize) = (60_000, 60);

/// Each ring reaches as far back as the windows that are read from it.
const _: () = assert!(FINE.0 * FINE.1 as u64 == Window::FiveMinutes.minutes() * 60_000);
const _: () = assert!(COARSE.0 * COARSE.1 as u64 == Window::Hour.minutes() * 60_000);

/// What was counted of some counters: 368 bytes for each, whatever is counted.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    fine: Ring,
    coarse: Ring,
}

impl Windows {
    /// Of `width` counters.
    pub(crate) fn new(width: usize) -> Self {
        Self { fine: Ring::new(FINE, width), coarse: Ring::new(COARSE, width) }
    }

    /// Adds what was counted by `now`, in milliseconds of a clock that only goes forward.
    pub(crate) fn add(&mut self, now: u64, more: &[u64]) {
        self.fine.add(now, more);
        self.coarse.add(now, more);
    }

    /// For each counter, what was added in the last minutes before `now`.
    pub(crate) fn over(&self, window: Window, now: u64) -> Vec<u64> {
        self.over_from(0, window, now)
    }

    /// The same without the counters before `first`.
    pub(crate) fn over_from(&self, first: usize, window: Window, now: u64) -> Vec<u64> {
        let ring = if window == Window::Hour { &self.coarse } else { &self.fine };
        ring.sum(first, now, window.minutes() * 60_000 / ring.every)
    }
}

#[derive(Clone, Debug)]
struct Ring {
    every: u64,
    width: usize,
    /// Of which stretch of time each row is, counted from the clock's begin.
    stretches: Vec<Option<u64>>,
    cells: Vec<u32>,
}

impl Ring {
    fn new((every, before): (u64, usize), width: usize) -> Self {
        let rows = before + 1;
        Self { every, width, stretches: vec![None; rows], cells: vec![0; rows * width] }
    }

    fn add(&mut self, now: u64, more: &[u64]) {
        let stretch = now / self.every;
        let row = usize::try_from(stretch % self.stretches.len() as u64).expect("it is below a length");
        let cells = &mut self.cells[row * self.width..(row + 1) * self.width];
        if self.stretches[row] != Some(stretch) {
            self.stretches[row] = Some(stretch);
            cells.fill(0);
        }
        for (cell, more) in cells.iter_mut().zip(more) {
            *cell = cell.saturating_add(u32::try_from(*more).unwrap_or(u32::MAX));
        }
    }

    fn sum(&self, first: usize, now: u64, before: u64) -> Vec<u64> {
        let last = now / self.every;
        let mut sums = vec![0; self.width - first];
        for (row, stretch) in self.stretches.iter().enumerate() {
            if stretch.is_some_and(|stretch| stretch <= last && stretch + before >= last) {
                let cells = &self.cells[row * self.width + first..(row + 1) * self.width];
                sums.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += u64::from(*cell));
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leave_each_window_when_it_is_over() {
        let mut windows = Windows::new(2);
        windows.add(5_000, &[3, 0]);
        windows.add(65_000, &[1, 2]);
        for (now, minute, five, hour) in [
            (65_000, 4, 4, 4),
            (69_999, 4, 4, 4),
            (70_000, 1, 4, 4),
            (135_000, 0, 4, 4),
            (309_999, 0, 4, 4),
            (310_000, 0, 1, 4),
            (370_000, 0, 0, 4),
            (3_659_999, 0, 0, 4),
            (3_660_000, 0, 0, 1),
            (3_720_000, 0, 0, 0),
        ] {
            let found = Window::ALL.map(|window| windows.over(window, now)[0]);
            assert_eq!(found, [minute, five, hour], "{now}");
        }
        assert_eq!(windows.over(Window::Hour, 65_000), [4, 2]);
        assert_eq!(windows.over_from(1, Window::Hour, 65_000), [2]);
    }

    #[test]
    fn rows_are_used_again_after_hours_of_silence() {
        let mut windows = Windows::new(1);
        for hour in 0..5 {
            let now = hour * 3_600_000 * 7;
            assert_eq!(windows.over(Window::Hour, now), [0], "{hour}");
            windows.add(now, &[1]);
            assert_eq!(Window::ALL.map(|window| windows.over(window, now)[0]), [1, 1, 1], "{hour}");
        }
    }

    #[test]
    fn what_is_too_much_for_a_row_is_as_much_as_it_holds() {
        let mut windows = Windows::new(1);
        windows.add(0, &[u64::MAX]);
        windows.add(0, &[1]);
        assert_eq!(windows.over(Window::Minute, 0), [u64::from(u32::MAX)]);
    }
}
