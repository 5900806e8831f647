//! Deadlines of drains, against how fast their sessions end.

use super::{Advice, DrainFigures, Figures, about};
use control::counters::PoolCount;

/// The fewest sessions that a deadline has to cut off to be worth a word.
const MIN_CUT: u64 = 10;

/// Drains under way whose deadline comes before their sessions have ended.
pub(super) fn end_too_early<'f>(figures: &'f Figures<'_>) -> impl Iterator<Item = Advice> + use<'f> {
    figures.drains.iter().filter_map(ends_too_early)
}

fn ends_too_early(drain: &DrainFigures) -> Option<Advice> {
    let DrainFigures { backend, live, left, cut_off, p99 } = drain;
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]
    if !p99.is_finite() || *p99 <= *left as f64 || *cut_off < MIN_CUT as f64 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is finite, and more than seconds left"
    )]
    let needs = about(p99.ceil() as u64);
    Some(Advice {
        about: "drain",
        says: format!(
            "The drain of `{backend}` ends in {}, before its sessions do: give it a deadline of {needs}, or drain with \
             mode `migrate`.",
            about(*left)
        ),
        evidence: format!(
            "{live} sessions are left: 99 % of all will have ended in {needs}, and about {cut_off:.0} are cut off at the \
             deadline."
        ),
    })
}

/// Deadlines have cut sessions off.
pub(super) fn cut_sessions_off(figures: &Figures<'_>) -> Option<Advice> {
    let cut = figures.since_start(PoolCount::RepinnedDeadline);
    (cut >= MIN_CUT).then(|| Advice {
        about: "drain",
        says:
            "Give drains a longer deadline, or drain with mode `retire` or `migrate`; `drain_progress` tells how long \
               sessions take to end."
                .to_owned(),
        evidence: format!(
            "{cut} sessions came back after the deadline of their backend's drain, and were bound elsewhere."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Known, *};

    #[test]
    fn a_deadline_before_the_sessions_end_is_told_with_how_long_it_takes() {
        let drain = |cut_off, left, p99| DrainFigures { backend: "a".to_owned(), live: 1_000, left, cut_off, p99 };
        for (drain, cut) in [
            (drain(42.4, 1_800, 2_600.0), Some(42)),
            (drain(1_000.0, 0, 2_600.0), Some(1_000)),
            (drain(10.0, 2_600, 2_600.0), None),
            (drain(9.9, 1_800, 2_600.0), None),
            (drain(42.4, 1_800, f64::INFINITY), None),
        ] {
            let known = Known { drains: vec![drain.clone()], ..Known::default() };
            let found: Vec<_> = end_too_early(&known.figures()).collect();
            assert_eq!(found.len(), usize::from(cut.is_some()), "{drain:?}");
            for (advice, cut) in found.iter().zip(cut) {
                assert!(advice.says.contains("a deadline of 43m20s"), "{advice:?}");
                assert!(advice.evidence.contains(&format!("about {cut} are cut off at")), "{advice:?}");
            }
        }
    }

    #[test]
    fn sessions_that_deadlines_cut_off_are_told() {
        for (cut, expected) in [(9, false), (10, true)] {
            let known = Known::counting(&[(PoolCount::RepinnedDeadline, cut)]);
            let found = cut_sessions_off(&known.figures());
            assert_eq!(found.is_some(), expected, "{cut}");
            assert!(found.is_none_or(|advice| advice.evidence.starts_with("10 sessions")));
        }
    }
}
