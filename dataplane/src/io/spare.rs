use std::cell::{Cell, RefCell};

/// Pieces that are used again. What was used last is handed out first, while it is still in the caches; what nobody has needed
/// for a while is let go by halves.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    pieces: RefCell<Vec<T>>,
    /// The fewest that there were since the last [`Self::trim`].
    least: Cell<usize>,
}

/// How many are kept at most; the rest goes back to the allocator at once.
const MOST: usize = 1_024;

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self { pieces: RefCell::default(), least: Cell::new(0) }
    }
}

impl<T> Spare<T> {
    pub(crate) fn take(&self) -> Option<T> {
        let mut pieces = self.pieces.borrow_mut();
        let piece = pieces.pop();
        self.least.set(self.least.get().min(pieces.len()));
        piece
    }

    /// Whether it is kept.
    pub(crate) fn give(&self, piece: T) -> bool {
        let mut pieces = self.pieces.borrow_mut();
        let is_kept = pieces.len() < MOST;
        if is_kept {
            pieces.push(piece);
        }
        is_kept
    }

    /// Lets go of half of those that were not needed since the last call; whether that was any.
    pub(crate) fn trim(&self) -> bool {
        !self.surplus().is_empty()
    }

    /// What [`Self::trim`] lets go of.
    pub(crate) fn surplus(&self) -> Vec<T> {
        let mut pieces = self.pieces.borrow_mut();
        let surplus = self.least.replace(pieces.len()).min(pieces.len());
        // Those that were not used for longest.
        pieces.drain(..surplus.div_ceil(2)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count<T>(spare: &Spare<T>) -> usize {
        spare.pieces.borrow().len()
    }

    #[test]
    fn the_last_one_comes_first_and_no_more_are_kept_than_may_be() {
        let spare = Spare::default();
        assert_eq!((0..MOST + 10).filter(|piece| spare.give(*piece)).count(), MOST);
        assert_eq!((count(&spare), spare.take()), (MOST, Some(MOST - 1)));
    }

    #[test]
    fn what_is_not_needed_goes_by_halves_and_what_is_stays() {
        let spare = Spare::default();
        assert!((0..100).all(|piece| spare.give(piece)));
        spare.trim();
        assert_eq!(count(&spare), 100, "it has only just come");
        // Of these 100 no more than 60 are needed at once.
        for _ in 0..20 {
            let used: Vec<_> = (0..60).map(|_| spare.take().unwrap()).collect();
            assert!(used.into_iter().all(|piece| spare.give(piece)));
            spare.trim();
        }
        assert_eq!(count(&spare), 60);
        while spare.trim() {}
        assert_eq!(count(&spare), 0, "none holds a page of the allocator's by itself");
    }
}
