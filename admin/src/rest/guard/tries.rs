//! Wrong tokens. Whoever sends many in a row is told to wait, ever longer, and is told of. The right token opens at any time, also
//! from there: otherwise whoever shares an address with an operator could keep them out. So it is the length of the token that
//! keeps guessers from finding it, and this that has them seen and keeps them cheap.

use crate::caller::Party;
use std::collections::HashMap;

/// Wrong tokens in a row that are answered as such: people mistype, and scripts go on with an old one for a while.
const FREE: u32 = 10;
/// In milliseconds; each wait is twice as long as the one before.
const FIRST_WAIT: u64 = 1_000;
const LONGEST_WAIT: u64 = 60_000;
/// Whoever has sent none for so long begins anew.
const FORGOTTEN: u64 = 600_000;
/// Of whom wrong tokens are kept. Beyond that, whoever has been quiet for longest is forgotten.
const PARTIES: usize = 4_096;
/// So many from all together at once, and so many more each second.
const ALL_AT_ONCE: u64 = 200;
const ALL_PER_SECOND: u64 = 20;

/// What a wrong token is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Wrong,
    /// `begins`, where this one has had the wait begin: so many in a row have come.
    Wait {
        seconds: u64,
        begins: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    in_a_row: u32,
    last: u64,
    until: u64,
}

#[derive(Debug)]
pub(super) struct Tries {
    by: HashMap<Party, Tried>,
    /// How many more may come from all together, in thousandths, and when that was so.
    left: u64,
    at: u64,
    pub(super) wrong: u64,
    pub(super) throttled: u64,
}

impl Default for Tries {
    fn default() -> Self {
        Self { by: HashMap::new(), left: ALL_AT_ONCE * 1_000, at: 0, wrong: 0, throttled: 0 }
    }
}

impl Tries {
    /// Takes note of a wrong one. `now` is in milliseconds by a clock that only goes forward.
    pub(super) fn wrong(&mut self, from: Party, now: u64) -> Answer {
        let answer = self.answer(from, now);
        match answer {
            Answer::Wrong => self.wrong += 1,
            Answer::Wait { .. } => self.throttled += 1,
        }
        answer
    }

    fn answer(&mut self, from: Party, now: u64) -> Answer {
        let all = self.take_of_all(now);
        if self.by.len() >= PARTIES && !self.by.contains_key(&from) {
            self.forget_one(now);
        }
        let tried = self.by.entry(from).or_default();
        if now.saturating_sub(tried.last) > FORGOTTEN {
            *tried = Tried::default();
        }
        tried.last = now;
        if now < tried.until {
            return Answer::Wait { seconds: (tried.until - now).div_ceil(1_000), begins: None };
        }
        tried.in_a_row = tried.in_a_row.saturating_add(1);
        if tried.in_a_row <= FREE {
            return if all { Answer::Wrong } else { Answer::Wait { seconds: 1, begins: None } };
        }
        let doublings = (tried.in_a_row - FREE - 1).min(LONGEST_WAIT.ilog2());
        let wait = (FIRST_WAIT << doublings).min(LONGEST_WAIT);
        tried.until = now + wait;
        Answer::Wait { seconds: wait.div_ceil(1_000), begins: Some(tried.in_a_row) }
    }

    /// The right one has come from there.
    pub(super) fn right(&mut self, from: Party) {
        self.by.remove(&from);
    }

    /// Whether all together may have one more answered as wrong.
    fn take_of_all(&mut self, now: u64) -> bool {
        let gained = now.saturating_sub(self.at).saturating_mul(ALL_PER_SECOND);
        self.left = self.left.saturating_add(gained).min(ALL_AT_ONCE * 1_000);
        self.at = now;
        let may = self.left >= 1_000;
        self.left -= if may { 1_000 } else { 0 };
        may
    }

    fn forget_one(&mut self, now: u64) {
        self.by.retain(|_, tried| now.saturating_sub(tried.last) <= FORGOTTEN);
        if self.by.len() >= PARTIES
            && let Some(quietest) = self.by.iter().min_by_key(|(_, tried)| tried.last).map(|(party, _)| *party)
        {
            self.by.remove(&quietest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn party(number: u32) -> Party {
        Party::Network(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn wait(seconds: u64, begins: Option<u32>) -> Answer {
        Answer::Wait { seconds, begins }
    }

    #[test]
    fn many_in_a_row_wait_twice_as_long_each_time_and_others_do_not() {
        let (mut tries, mut now) = (Tries::default(), 5_000);
        for _ in 0..FREE {
            assert_eq!(tries.wrong(party(1), now), Answer::Wrong);
        }
        for (number, seconds) in (11..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            assert_eq!(tries.wrong(party(1), now), wait(seconds, Some(number)));
            // Within it the wait goes on as it was, whoever knocks.
            assert_eq!(tries.wrong(party(1), now + 1), wait(seconds, None));
            assert_eq!(tries.wrong(party(2), now), Answer::Wrong);
            tries.right(party(2));
            now += seconds * 1_000;
        }
        assert_eq!((tries.wrong, tries.throttled), (19, 18));
        for _ in 0..70 {
            tries.wrong(party(1), now);
            now += 60_000;
        }
        assert_eq!(tries.wrong(party(1), now), wait(60, Some(90)), "no shift is too far");
    }

    #[test]
    fn the_right_one_and_a_long_pause_begin_anew() {
        let mut tries = Tries::default();
        let block = |tries: &mut Tries, now| (0..=FREE).map(|_| tries.wrong(party(1), now)).last().unwrap();
        assert_eq!(block(&mut tries, 0), wait(1, Some(11)));
        tries.right(party(1));
        assert_eq!(tries.wrong(party(1), 1), Answer::Wrong);
        tries.right(party(1));
        assert_eq!(block(&mut tries, 2), wait(1, Some(11)));
        assert_eq!(tries.wrong(party(1), 2 + FORGOTTEN + 1), Answer::Wrong);
    }

    #[test]
    fn all_together_have_a_bound_and_memory_has_one() {
        let mut tries = Tries::default();
        let answers: Vec<_> = (0..ALL_AT_ONCE + 1).map(|number| tries.wrong(party(number as u32), 0)).collect();
        assert!(answers[..ALL_AT_ONCE as usize].iter().all(|answer| *answer == Answer::Wrong));
        assert_eq!(answers.last(), Some(&wait(1, None)));
        let more =
            (0..ALL_PER_SECOND).filter(|n| tries.wrong(party(9_000 + *n as u32), 1_000) == Answer::Wrong).count();
        assert_eq!(more as u64, ALL_PER_SECOND);
        for number in 0..3 * PARTIES {
            tries.wrong(party(number as u32), 2_000 + number as u64);
            assert!(tries.by.len() <= PARTIES);
        }
        assert!(tries.by.contains_key(&party(3 * PARTIES as u32 - 1)), "those who were quiet for longest went");
    }
}
