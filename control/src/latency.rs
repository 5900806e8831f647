//! How long responses take, in steps: from the head of a request having come to the head of its response having come, or to our
//! own answer in its place. Queues, connecting and retries are in it, the bodies are not.

use serde::{Deserialize, Serialize};

/// The ends of the steps, in microseconds; what takes longer than the last is in a step of its own.
pub const BOUNDS: [u64; BUCKETS - 1] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 20_000_000, 60_000_000,
];
pub const BUCKETS: usize = 17;

/// The first digit of a final status, by which latency is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Success, Self::Redirection, Self::ClientError, Self::ServerError];
    pub const COUNT: usize = Self::ALL.len();

    /// `None` for 101, which begins a tunnel, and for what is no status.
    pub const fn of(status: u16) -> Option<Self> {
        match status {
            200..=299 => Some(Self::Success),
            300..=399 => Some(Self::Redirection),
            400..=499 => Some(Self::ClientError),
            500..=599 => Some(Self::ServerError),
            _ => None,
        }
    }

    /// As it is named in reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// What was counted of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Responses by step: the first is up to the first of [`BOUNDS`], the last beyond the last.
    pub buckets: Vec<u64>,
    /// What all of them took together, in microseconds.
    pub sum: u64,
}

impl Latency {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The step that so many microseconds fall in.
pub fn bucket(micros: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < micros)
}

/// What this share of the responses took at most, in microseconds, as if those of a step were spread evenly over it; `None`
/// without any. What lies beyond the last bound counts as that.
#[expect(clippy::cast_precision_loss, reason = "far below 53 bits")]
pub fn quantile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = share * all as f64;
    let (mut below, mut from) = (0.0, 0.0);
    for (count, to) in buckets.iter().zip(BOUNDS) {
        let (count, to) = (*count as f64, to as f64);
        if count > 0.0 && below + count >= wanted {
            return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        (below, from) = (below + count, to);
    }
    (all > 0).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_with_its_bound() {
        for (micros, step) in
            [(0, 0), (500, 0), (501, 1), (1_000, 1), (60_000_000, 15), (60_000_001, 16), (u64::MAX, 16)]
        {
            assert_eq!(bucket(micros), step, "{micros}");
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn quantiles_lie_where_the_responses_do() {
        let counted = |counts: &[(usize, u64)]| {
            let mut buckets = vec![0; BUCKETS];
            counts.iter().for_each(|(step, count)| buckets[*step] = *count);
            [0.0, 0.5, 0.9, 1.0].map(|share| quantile(&buckets, share))
        };
        assert_eq!(counted(&[]), [None; 4]);
        assert_eq!(counted(&[(0, 10)]), [Some(0.0), Some(250.0), Some(450.0), Some(500.0)]);
        assert_eq!(counted(&[(3, 50), (6, 50)]), [Some(2_000.0), Some(5_000.0), Some(44_000.0), Some(50_000.0)]);
        assert_eq!(counted(&[(0, 1), (16, 9)]), [Some(0.0), Some(6e7), Some(6e7), Some(6e7)]);
    }

    #[test]
    fn classes_are_told_by_the_first_digit() {
        let of = |status| Class::of(status).map(Class::name);
        assert_eq!([200, 304, 499, 599].map(of), [Some("2xx"), Some("3xx"), Some("4xx"), Some("5xx")]);
        assert_eq!([0, 101, 600, 999].map(of), [None; 4]);
    }
}
