//! What free balancing would have done with a request that has a pin: the measure of what stickiness costs.

use crate::{table::PoolTable, wheel::Turn};
use control::{desired::AdminState, status::Health};

/// Places of the wheel that are looked at for one request: those who would take it are rarely far.
const LOOKS: usize = 64;

/// Whom a request would go to if nothing pinned it: the next in turn, by weight, of those that take new sessions as far as
/// checks know. Whatever the pool's policy: in the long run each of them spreads requests by weight. `None` where nobody
/// near takes it; the turn goes on all the same.
pub fn free_choice(pool: &PoolTable, turn: &mut Turn) -> Option<u16> {
    pool.wheel.next_of(turn, LOOKS, |index| {
        let backend = &pool.backends[usize::from(index)];
        let is_up = pool.fails_open || backend.health != Health::Down;
        backend.admin_state == AdminState::Active && backend.address.is_some() && is_up
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use control::spec::Pool;

    fn counts(pool: &PoolTable, requests: usize) -> Vec<usize> {
        let (mut turn, mut counts) = (Turn::default(), vec![0; pool.backends.len()]);
        for backend in (0..requests).filter_map(|_| free_choice(pool, &mut turn)) {
            counts[usize::from(backend)] += 1;
        }
        counts
    }

    #[test]
    fn it_follows_the_weights_of_those_that_take_new_sessions() {
        let mut pool = testing::pool(Pool::default(), &[("a", 1), ("b", 3), ("c", 0), ("d", 1), ("e", 1)]);
        assert_eq!(counts(&pool, 600), [100, 300, 0, 100, 100]);
        pool.backends[3].health = Health::Down;
        pool.backends[4].admin_state = AdminState::Draining;
        assert_eq!(counts(&pool, 400), [100, 300, 0, 0, 0]);
        pool.backends[0].health = Health::Down;
        pool.backends[1].address = None;
        assert_eq!(counts(&pool, 100), [0; 5]);
        pool.fails_open = true;
        assert_eq!(counts(&pool, 100), [50, 0, 0, 50, 0]);
    }

    #[test]
    fn a_long_row_of_the_unusable_is_crossed_in_bounded_steps() {
        let names: Vec<_> = (0..1_000).map(|n| format!("app-{n:04}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let mut pool = testing::pool(Pool::default(), &members);
        for backend in &mut pool.backends[10..900] {
            backend.health = Health::Down;
        }
        let found = counts(&pool, 20_000);
        let (least, most) = (found[..10].iter().chain(&found[900..]).min(), found.iter().max());
        assert!(least.zip(most).is_some_and(|(least, most)| *least > 100 && most - least <= 1), "{found:?}");
        assert!(found[10..900].iter().all(|count| *count == 0));
    }
}
