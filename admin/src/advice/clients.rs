//! What clients do with their markers.

use super::{Advice, Figures, percent, share};
use crate::history::returning;
use control::counters::PoolCount;

/// The fewest requests in an hour that say anything.
const MIN_REQUESTS: u64 = 1_000;
/// The fewest markers in an hour that were refused for one cause.
const MIN_REFUSED: u64 = 100;

/// Most requests begin a session, so that stickiness gives little.
pub(super) fn return_no_cookie(figures: &Figures<'_>) -> Option<Advice> {
    let (requests, unpinned) = (figures.in_hour(PoolCount::Requests), figures.in_hour(PoolCount::Unpinned));
    let new = share(unpinned, requests);
    (figures.affinity.sets_cookie() && requests >= MIN_REQUESTS && new >= 0.5).then(|| Advice {
        about: "cookie",
        says:
            "Most requests come without the cookie: look whether browsers drop it (`secure` on plain http, `domain`, \
               `path`, `same_site` where another site embeds this one); where programs ask that keep no cookies, leave \
               them out by an `ignore` rule or a route without affinity."
                .to_owned(),
        evidence: format!("Of {requests} requests in the last hour, {} began a session.", percent(new)),
    })
}

pub(super) fn come_back_too_late(figures: &Figures<'_>) -> Option<Advice> {
    let idle = figures.affinity.cookie.idle_timeout?;
    let (ended, of_all) = refused(figures, PoolCount::ExpiredIdle)?;
    Some(Advice {
        about: "idle_timeout",
        says: format!("A longer `idle_timeout` than {idle} would keep sessions that their users come back to."),
        evidence: format!("In the last hour {ended} requests came back after it, {of_all} of all that came back."),
    })
}

pub(super) fn grow_too_old(figures: &Figures<'_>) -> Option<Advice> {
    let lifetime = figures.affinity.cookie.lifetime?;
    let (ended, of_all) = refused(figures, PoolCount::ExpiredLifetime)?;
    Some(Advice {
        about: "lifetime",
        says: format!("A longer `lifetime` than {lifetime} would keep sessions that are in use."),
        evidence: format!("In the last hour it ended {ended} sessions, {of_all} of the requests that came back."),
    })
}

/// How many markers counted as none for this cause, and their share of the requests that came with one, where both are high.
fn refused(figures: &Figures<'_>, cause: PoolCount) -> Option<(u64, String)> {
    const MANY: f64 = 0.05;
    let ended = figures.in_hour(cause);
    let of_all = share(ended, returning(&figures.hour.counts).requests + ended);
    (ended >= MIN_REFUSED && of_all >= MANY).then(|| (ended, percent(of_all)))
}

/// Tokens come that this node can't open: another seals with a key that it has not, or one went too early.
pub(super) fn have_unknown_keys(figures: &Figures<'_>) -> Option<Advice> {
    const MANY: f64 = 0.001;
    let unknown = figures.in_hour(PoolCount::TokenUnknownKey);
    let of_all = share(unknown, returning(&figures.hour.counts).requests + unknown);
    (unknown >= MIN_REFUSED && of_all >= MANY).then(|| Advice {
        about: "keys",
        says: "Give this node the keys of the others that serve these users, and keep old ones for as long as their \
               tokens come: `ctl keys` tells."
            .to_owned(),
        evidence: format!(
            "In the last hour {unknown} requests came with a token of a key that is not here, {} of all with a token.",
            percent(of_all)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Known, *};
    use control::spec::Mode;

    #[test]
    fn clients_that_return_no_cookie_are_told() {
        for (requests, unpinned, mode, expected) in [
            (1_000, 500, Mode::Cookie, true),
            (1_000, 499, Mode::Cookie, false),
            (999, 999, Mode::Cookie, false),
            (1_000, 900, Mode::SourceIp, false),
        ] {
            let mut known = Known::counting(&[(PoolCount::Requests, requests), (PoolCount::Unpinned, unpinned)]);
            known.affinity.mode = mode;
            let found = return_no_cookie(&known.figures());
            assert_eq!(found.is_some(), expected, "{requests} {unpinned}");
            assert!(found.is_none_or(|advice| advice.evidence.contains("50.0 % began a session")));
        }
    }

    #[test]
    fn limits_that_end_sessions_in_use_are_told() {
        type Advise = fn(&Figures<'_>) -> Option<Advice>;
        let both: [(PoolCount, Advise); 2] =
            [(PoolCount::ExpiredIdle, come_back_too_late), (PoolCount::ExpiredLifetime, grow_too_old)];
        for (cause, advise) in both {
            for (ended, pinned, limit, expected) in [
                (100, 1_900, Some(60), true),
                (100, 1_901, Some(60), false),
                (99, 0, Some(60), false),
                (100, 0, None, false),
            ] {
                let known = Known::counting(&[(cause, ended), (PoolCount::Pinned, pinned)]).limited(limit, limit);
                let found = advise(&known.figures());
                assert_eq!(found.is_some(), expected, "{cause:?} {ended} {pinned}");
                assert!(
                    found.is_none_or(|advice| advice.says.contains("than 1m") && advice.evidence.contains("5.0 %"))
                );
            }
        }
    }

    #[test]
    fn tokens_of_keys_that_are_not_here_are_told() {
        for (unknown, pinned, expected) in [(100, 99_900, true), (100, 99_901, false), (99, 0, false)] {
            let known = Known::counting(&[(PoolCount::TokenUnknownKey, unknown), (PoolCount::Pinned, pinned)]);
            assert_eq!(have_unknown_keys(&known.figures()).is_some(), expected, "{unknown} {pinned}");
        }
    }
}
