//! How long sessions may live, against how long they do and how long their backends do.

use super::{Advice, Figures, about, percent, share};
use control::{counters::PoolCount, spec::Span, token_age::TokenAge};

/// The fewest sessions that found their backend gone.
const MIN_LOST: u64 = 10;
/// The fewest tokens in an hour that say how old sessions are.
const MIN_TOKENS: u64 = 1_000;

/// Sessions may live longer than backends do, and have lost their state by that.
pub(super) fn outlive_backends(figures: &Figures<'_>) -> Option<Advice> {
    const LOST: [PoolCount; 4] =
        [PoolCount::RepinnedRemoved, PoolCount::LostIncarnation, PoolCount::EndedRemoved, PoolCount::EndedIncarnation];
    let lost: u64 = LOST.iter().map(|what| figures.since_start(*what)).sum();
    let mean = figures.lived.mean()? / 1_000;
    if lost < MIN_LOST || !figures.affinity.seals() {
        return None;
    }
    let cookie = &figures.affinity.cookie;
    let seconds = |span: Span| span.as_millis() / 1_000;
    let lives = about(mean);
    let (setting, says) = match (cookie.lifetime, cookie.idle_timeout) {
        (Some(lifetime), _) if seconds(lifetime) > mean * 2 => (
            "lifetime",
            format!("A session may live for {lifetime}, and a backend lives for {lives}: set `lifetime` below that."),
        ),
        (None, Some(idle)) if seconds(idle) > mean => (
            "idle_timeout",
            format!(
                "A session may be silent for {idle}, and a backend lives for {lives}: set `idle_timeout` below that."
            ),
        ),
        (None, None) => (
            "lifetime",
            format!(
                "Nothing but the browser ends a session, and a backend lives for {lives}: set `lifetime` or `idle_timeout`."
            ),
        ),
        (Some(_), _) | (None, Some(_)) => return None,
    };
    let says = format!("{says} Or drain for longer before a backend goes, or take the state out of the backends.");
    let evidence = format!(
        "{} backends were removed or began a new life in the {} that this process has run, a life lasted {lives} in the \
         mean, and {lost} sessions found theirs gone.",
        figures.lived.ended,
        about(figures.followed)
    );
    Some(Advice { about: setting, says, evidence })
}

fn tokens(figures: &Figures<'_>) -> Option<u64> {
    let tokens = figures.hour.ages.iter().sum();
    (tokens >= MIN_TOKENS && figures.affinity.seals()).then_some(tokens)
}

/// Hardly any session gets as old as it may be silent, so that a shorter limit would end hardly any.
pub(super) fn are_short(figures: &Figures<'_>) -> Option<Advice> {
    const SHORT: u64 = 3_600;
    const ALMOST_ALL: f64 = 0.99;
    let tokens = tokens(figures)?;
    let idle = figures.affinity.cookie.idle_timeout?;
    let young = share(figures.hour.ages[TokenAge::Under1h as usize], tokens);
    // Where all has just begun, all sessions are young.
    let is_known = figures.followed >= 4 * SHORT;
    (is_known && young >= ALMOST_ALL && idle.as_millis() / 1_000 >= 4 * SHORT).then(|| Advice {
        about: "idle_timeout",
        says: format!(
            "An `idle_timeout` of 1h would end hardly a session that anybody comes back to, and drains would not wait \
             {idle} for those that nobody does."
        ),
        evidence: format!(
            "Of {tokens} requests with a token in the last hour, {} came in the first hour of their session.",
            percent(young)
        ),
    })
}

/// Sessions last for so long that drains can't wait for them, and nothing ends them.
pub(super) fn are_old(figures: &Figures<'_>) -> Option<Advice> {
    const MANY: f64 = 0.01;
    let tokens = tokens(figures)?;
    let old = share(figures.hour.ages[TokenAge::Older as usize], tokens);
    (figures.affinity.cookie.lifetime.is_none() && old >= MANY).then(|| Advice {
        about: "lifetime",
        says: "Set a `lifetime`: sessions go on for more than a week, and no drain can wait for that.".to_owned(),
        evidence: format!(
            "Of {tokens} requests with a token in the last hour, {} were of sessions that began more than 7 days ago.",
            percent(old)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Known, *};
    use crate::history::lives::Lived;
    use control::spec::Mode;

    const HOUR: u64 = 3_600;

    #[test]
    fn sessions_that_outlive_their_backends_are_told_with_the_setting_to_change() {
        let known = |lost: u64, ended, hours, idle, lifetime| Known {
            lived: Lived { ended, followed: hours * HOUR * 1_000 },
            followed: 48 * HOUR,
            ..Known::counting(&[(PoolCount::RepinnedRemoved, lost / 2), (PoolCount::LostIncarnation, lost - lost / 2)])
                .limited(idle, lifetime)
        };
        for (known, setting) in [
            (known(50, 10, 30, None, Some(24 * HOUR)), Some("lifetime")),
            (known(50, 10, 30, Some(HOUR), Some(7 * HOUR)), Some("lifetime")),
            (known(50, 10, 30, Some(HOUR), Some(6 * HOUR)), None),
            (known(50, 10, 30, Some(4 * HOUR), None), Some("idle_timeout")),
            (known(50, 10, 30, Some(3 * HOUR), None), None),
            (known(50, 10, 30, None, None), Some("lifetime")),
            // Too few were lost, or too few lives ended.
            (known(9, 10, 30, None, None), None),
            (known(50, 2, 30, None, None), None),
        ] {
            let found = outlive_backends(&known.figures());
            assert_eq!(found.as_ref().map(|advice| advice.about), setting, "{known:?}");
            if let Some(advice) = found {
                assert!(advice.says.contains("a backend lives for 3h"), "{advice:?}");
                assert!(
                    advice.evidence.contains("in the 2d that") && advice.evidence.contains("50 sessions"),
                    "{advice:?}"
                );
            }
        }
        let mut hashed = known(50, 10, 30, None, None);
        hashed.affinity.mode = Mode::SourceIp;
        assert_eq!(outlive_backends(&hashed.figures()), None);
    }

    fn aged(ages: [u64; TokenAge::COUNT], idle: Option<u64>, lifetime: Option<u64>, followed: u64) -> Known {
        let mut known = Known { followed, ..Known::default() }.limited(idle, lifetime);
        known.hour.ages = ages;
        known
    }

    #[test]
    fn a_limit_much_longer_than_sessions_is_told() {
        for (known, expected) in [
            (aged([995, 5, 0, 0], Some(4 * HOUR), None, 4 * HOUR), true),
            (aged([990, 10, 0, 0], Some(24 * HOUR), Some(HOUR), 9 * HOUR), true),
            (aged([989, 11, 0, 0], Some(4 * HOUR), None, 4 * HOUR), false),
            (aged([995, 5, 0, 0], Some(3 * HOUR), None, 4 * HOUR), false),
            (aged([995, 5, 0, 0], None, None, 4 * HOUR), false),
            (aged([995, 5, 0, 0], Some(4 * HOUR), None, 4 * HOUR - 1), false),
            (aged([999, 0, 0, 0], Some(4 * HOUR), None, 4 * HOUR), false),
        ] {
            let found = are_short(&known.figures());
            assert_eq!(found.is_some(), expected, "{known:?}");
            assert!(found.is_none_or(|advice| advice.evidence.contains("requests with a token")));
        }
    }

    #[test]
    fn sessions_of_weeks_that_nothing_ends_are_told() {
        for (known, expected) in [
            (aged([900, 50, 40, 10], None, None, 0), true),
            (aged([900, 50, 41, 9], None, None, 0), false),
            (aged([900, 50, 40, 10], None, Some(HOUR), 0), false),
            (aged([0, 0, 0, 999], None, None, 0), false),
        ] {
            let found = are_old(&known.figures());
            assert_eq!(found.is_some(), expected, "{known:?}");
            assert!(found.is_none_or(|advice| advice.evidence.contains("1.0 % were of sessions")));
        }
    }
}
