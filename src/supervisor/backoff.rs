use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A child that lived so long has not died of what the one before it died of.
const HEALTHY: Duration = Duration::from_secs(60);

/// How long to wait before a child is started again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// `lived` is how long the child ran that has just ended.
    pub(super) fn next(&mut self, lived: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if lived < HEALTHY => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_and_starts_over_after_a_healthy_life() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_secs(1);
        let pauses: Vec<_> = (0..9).map(|_| backoff.next(soon).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.next(HEALTHY), FIRST);
        assert_eq!(backoff.next(soon), FIRST * 2);
    }
}
