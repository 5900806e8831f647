//! A sample of the requests, to find those who send most of them.

use super::handover::{Handed, Handover};
use std::{cell::RefCell, net::IpAddr};

/// A request of a pool with affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) pool: u32,
    /// Its session key, where it has one.
    pub(crate) session: Option<u64>,
    pub(crate) address: IpAddr,
}

/// Whether a request is of the sample, one of 16, by a random number of its own.
pub(crate) fn is_sampled(random: u64) -> bool {
    random.leading_zeros() >= 4
}

/// Samples that wait to be handed over; with more, the rest of that quarter of a second is left out.
const MOST: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Samples(RefCell<Vec<Sample>>);

impl Samples {
    pub(crate) fn note(&self, sample: Sample) {
        let mut waiting = self.0.borrow_mut();
        if waiting.len() < MOST {
            waiting.push(sample);
        }
    }

    /// Where the control thread is behind, they are lost: others will do.
    pub(super) fn flush(&self, to: &Handover) {
        let mut waiting = self.0.borrow_mut();
        if !waiting.is_empty() {
            let _ = to.give(Handed::Sampled(waiting.drain(..).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_sixteen_is_sampled() {
        let sampled = (0..160_000u64).filter(|n| is_sampled(affinity::hash::mix64(*n))).count();
        assert!((9_600..10_400).contains(&sampled), "{sampled}");
    }

    #[test]
    fn samples_wait_in_bounded_memory() {
        let (to, taken) = Handover::new(1);
        let samples = Samples::default();
        let sample = Sample { pool: 0, session: None, address: [192, 0, 2, 1].into() };
        for _ in 0..3 {
            (0..2 * MOST).for_each(|_| samples.note(sample));
            samples.flush(&to);
        }
        let Ok(Handed::Sampled(first)) = taken.try_recv() else { panic!("samples alone were handed over") };
        assert_eq!((first.len(), taken.try_recv().is_err()), (MOST, true));
    }
}
