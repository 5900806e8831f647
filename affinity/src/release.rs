//! The exit ramp: a cohort of the sessions is balanced freely, the rest is the control group, and what the two show is
//! compared, until it is clear that the backends are stateless or that they are not.

pub mod evidence;
pub mod judge;
pub mod ramp;
pub mod record;
pub mod signs;

use crate::{cookie::CookieName, hash::mix64};
use control::{
    release::{Release, Watch},
    spec::{Affinity, AppCookie},
};

/// Keeps the cohort apart from the places of its keys on the ring and from who moves first in a drain. Frozen: another
/// value changes who is released.
const SALT: u64 = 0x7265_6C65_6173_6564;

/// Whether the session of this key is among the released ones, of which there are so many in 10,000. Who is released at
/// one share is released at every larger one, on every core and node.
pub fn is_released(key: u64, basis_points: u16) -> bool {
    mix64(key ^ SALT) % 10_000 < u64::from(basis_points)
}

/// What a worker needs of a release under way.
#[derive(Clone, Debug)]
pub struct ReleaseTable {
    pub id: u32,
    /// How many sessions in 10,000 are released.
    pub share: u16,
    pub watch: Watch,
    /// The application's session cookie, where that is looked at.
    pub session_cookie: Option<CookieName>,
}

impl ReleaseTable {
    /// `None` where nobody is released.
    pub fn new(release: &Release, affinity: &Affinity) -> Option<Self> {
        let share = release.basis_points();
        if share == 0 || affinity.why_not_released().is_some() {
            return None;
        }
        let watch = release.plan.watch.clone();
        let session_cookie = watch.session_cookie.as_deref().and_then(CookieName::new);
        Some(Self { id: release.id, share, watch, session_cookie })
    }
}

/// The application's session cookie, where the affinity knows it.
pub fn known_session_cookie(affinity: &Affinity) -> Option<&str> {
    affinity.app_cookie.as_ref().map(|AppCookie { name, .. }| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_larger_cohort_has_all_of_a_smaller_one(key: u64, small in 0u16..=10_000, large in 0u16..=10_000) {
            let (small, large) = (small.min(large), small.max(large));
            prop_assert!(!is_released(key, small) || is_released(key, large));
            prop_assert!(!is_released(key, 0) && is_released(key, 10_000));
        }
    }

    #[test]
    fn the_cohort_is_as_large_as_it_is_to_be_and_frozen() {
        for (basis_points, expected) in [(1, 10.0f64), (100, 1_000.0), (2_500, 25_000.0), (9_000, 90_000.0)] {
            let released = (0..100_000).filter(|number| is_released(mix64(*number), basis_points)).count();
            let found = f64::from(u32::try_from(released).unwrap());
            // Five standard deviations.
            assert!((found - expected).abs() < 5.0 * expected.sqrt() + 1.0, "{basis_points}: {found}");
        }
        let first: Vec<_> = (0..60).filter(|key| is_released(*key, 1_000)).collect();
        assert_eq!(first, FROZEN);
    }

    const FROZEN: [u64; 5] = [13, 20, 37, 40, 46];
}
