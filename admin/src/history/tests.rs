use super::*;
use control::{
    desired::PoolState,
    spec::Key,
    status::{KeyStats, PoolStats},
};

const BEGAN: u64 = 1_790_000_000_000;
const HOUR: u64 = 3_600_000;

fn plane(pid: u32, started: u64) -> PlaneId {
    PlaneId { pid, started }
}

fn desired() -> Desired {
    let pools = ["shop", "images"].map(|name| (name.to_owned(), PoolState::default()));
    Desired { pools: pools.into(), ..Desired::default() }
}

fn counts(name: &str, count: u64) -> Counts {
    [(name.to_owned(), count)].into()
}

/// A report by which the pool has served so many requests, half of them with a token.
fn report(pool: &str, requests: u64) -> Stats {
    let stats = PoolStats {
        counts: counts("requests", requests),
        ages: counts("under_1d", requests / 2),
        ..PoolStats::default()
    };
    Stats { pools: [(pool.to_owned(), stats)].into(), ..Stats::default() }
}

fn requests(history: &History, pool: &str, now: u64) -> u64 {
    history.pool(pool, Window::Hour, now).counts.get("requests").copied().unwrap_or_default()
}

#[test]
fn planes_are_summed_and_one_that_began_anew_counts_from_zero() {
    let mut history = History::new(BEGAN);
    let (first, second, again) = (plane(1, BEGAN + 5), plane(2, BEGAN + 6), plane(3, BEGAN + 9_000));
    for (id, counted, sum) in [
        (first, 10, 10),
        (first, 30, 30),
        (second, 5, 35),
        (first, 30, 35),
        // The first has died, and another process goes on for it.
        (again, 4, 39),
        (again, 6, 41),
        (second, 7, 43),
    ] {
        history.take(id, false, &report("shop", counted), &desired(), 1_000);
        assert_eq!(requests(&history, "shop", 1_000), sum, "{id:?} {counted}");
    }
    let sums = history.pool("shop", Window::Minute, 1_000);
    assert_eq!(sums.ages, [0, 15 + 3 + 3, 0, 0]);
    assert_eq!(requests(&history, "images", 1_000), 0);
}

#[test]
fn what_was_counted_before_this_process_began_is_of_no_window() {
    let mut history = History::new(BEGAN);
    let older = plane(1, BEGAN - HOUR);
    history.take(older, false, &report("shop", 1_000_000), &desired(), 1_000);
    assert_eq!(requests(&history, "shop", 1_000), 0);
    history.take(older, false, &report("shop", 1_000_007), &desired(), 2_000);
    assert_eq!(requests(&history, "shop", 2_000), 7);
    // A pool that came since then is new in whole, and one that this process does not know is none.
    history.take(older, false, &report("images", 3), &desired(), 3_000);
    history.take(older, false, &report("unknown", 3), &desired(), 3_000);
    assert_eq!((requests(&history, "images", 3_000), requests(&history, "unknown", 3_000)), (3, 0));
}

#[test]
fn one_that_served_nothing_before_it_connected_counts_in_whole() {
    let mut history = History::new(BEGAN);
    history.take(plane(1, BEGAN - 50), true, &report("shop", 3), &desired(), 1_000);
    assert_eq!(requests(&history, "shop", 1_000), 3);
}

#[test]
fn a_pool_that_comes_back_does_not_count_again_what_its_namesake_did() {
    let mut history = History::new(BEGAN);
    let plane = plane(1, BEGAN);
    history.take(plane, false, &report("shop", 50), &desired(), 1_000);
    history.follow(&Change::RemovePool { name: "shop".to_owned() }, 1_500);
    assert_eq!(requests(&history, "shop", 1_500), 0);
    history.take(plane, false, &report("shop", 52), &desired(), 2_000);
    assert_eq!(requests(&history, "shop", 2_000), 2);
}

#[test]
fn planes_are_forgotten_before_they_are_too_many() {
    let mut history = History::new(BEGAN);
    for number in 0..200 {
        history.take(plane(number, BEGAN), false, &report("shop", 1), &desired(), u64::from(number));
    }
    assert_eq!(history.planes.len(), MAX_PLANES);
    assert!(history.planes.contains_key(&plane(199, BEGAN)));
    assert_eq!(requests(&history, "shop", 200), 200);
}

#[test]
fn tokens_are_counted_for_the_keys_that_there_are() {
    let mut history = History::new(BEGAN);
    let key = Key([1; 32]);
    let name = keys::name(&key);
    history.follow(&Change::Keys { keys: vec![key] }, 0);
    let seen = |count| KeyStats { ages: counts("older", count), last_seen: Some(1_790_000_000) };
    let told =
        |count| Stats { keys: [(name.clone(), seen(count)), ("ffff".to_owned(), seen(9))].into(), ..Stats::default() };
    history.take(plane(1, BEGAN), false, &told(4), &desired(), 1_000);
    history.take(plane(1, BEGAN), false, &told(6), &desired(), 2_000);
    let watched = history.keys.find(&name).unwrap();
    assert_eq!((watched.seen(Window::Minute, 2_000), watched.last_seen), (6, Some(1_790_000_000)));
    assert_eq!(watched.seen(Window::Minute, 200_000), 0);
    assert!(history.keys.find("ffff").is_none());
}
