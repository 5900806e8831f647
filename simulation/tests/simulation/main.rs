//! The whole, simulated: two nodes with their stores, control channels and data planes, operators and browsers, all by one
//! seed. After each step DESIGN's invariants 1 to 5, 8 and 9 are looked at. `README.md` two folders up says what is real, what
//! a model, what goes wrong in it, and how to run more of it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod answer;
mod browser;
mod command;
mod link;
mod node;
mod oracle;
mod random;
mod trouble;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use world::World;

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 200;
/// Seeds of which it is looked whether they are one run each.
const TWICE: u64 = 10;
const STEPS: usize = 250;
/// Of those that fail, so many are told.
const FAILURES: usize = 3;
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Runs a seed; how it ended, where that was badly, with its last steps.
fn run(seed: u64, tells: bool) -> Result<u64, String> {
    let ran = dataplane::simulation::within(|| {
        let mut world = World::new(seed);
        let mut at = 0;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            world.begin_all();
            for step in 0..STEPS {
                at = step;
                world.step();
            }
        }));
        let steps = world.steps();
        if tells {
            println!("{}", steps.join("\n"));
        }
        match ended {
            Ok(()) => Ok(world.digest()),
            Err(reason) => {
                let known = reason.downcast_ref::<String>().cloned();
                let known = known.or_else(|| reason.downcast_ref::<&str>().map(|reason| (*reason).to_owned()));
                let reason = known.unwrap_or_else(|| "it panicked".to_owned());
                let last = steps[steps.len().saturating_sub(40)..].join("\n");
                let again = "cargo test -p simulation the_invariants -- --nocapture";
                Err(format!(
                    "seed {seed}, step {at}: {reason}\nthe last steps; all of them with `STEADFAST_SEED={seed} {again}`:\n{last}\n"
                ))
            }
        }
    });
    ran.expect("io_uring, as the product needs it")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// All seeds of one run of the tests, on as many threads as there are processors.
struct Seeds {
    from: u64,
    count: u64,
    next: AtomicU64,
    done: AtomicU64,
    /// Of the traces of all, in whatever order they came to their ends.
    sum: AtomicU64,
    failures: Mutex<Vec<String>>,
    began: Instant,
    told: Mutex<Instant>,
}

impl Seeds {
    fn new(from: u64, count: u64) -> Self {
        let [next, done, sum] = [from, 0, 0].map(AtomicU64::new);
        let began = Instant::now();
        Self { from, count, next, done, sum, failures: Mutex::default(), began, told: Mutex::new(began) }
    }

    fn run(&self) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| self.work()))));
    }

    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Relaxed);
            if seed >= self.from + self.count || self.failures.lock().unwrap().len() >= FAILURES {
                return;
            }
            match run(seed, false) {
                Ok(digest) => drop(self.sum.fetch_add(affinity::hash::mix64(digest ^ seed), Relaxed)),
                Err(failure) => self.failures.lock().unwrap().push(failure),
            }
            self.done.fetch_add(1, Relaxed);
            self.tell();
        }
    }

    /// On long runs, how far it is.
    fn tell(&self) {
        let mut told = self.told.lock().unwrap();
        if told.elapsed() >= TOLD_EVERY {
            *told = Instant::now();
            eprintln!("{}", self.progress());
        }
    }

    fn progress(&self) -> String {
        let (done, millis) = (self.done.load(Relaxed), self.began.elapsed().as_millis().max(1));
        let speed = u128::from(done) * 1_000 / millis;
        format!("{done} of {} seeds from {} on, {speed} a second", self.count, self.from)
    }
}

#[test]
fn the_invariants_hold_whatever_happens_in_whatever_order() {
    if let Some(seed) = number("STEADFAST_SEED") {
        run(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let seeds = Seeds::new(number("STEADFAST_FROM").unwrap_or(0), number("STEADFAST_SEEDS").unwrap_or(SEEDS));
    seeds.run();
    let failures = seeds.failures.lock().unwrap();
    assert!(failures.is_empty(), "{} of these seeds fail:\n{}", failures.len(), failures.join("\n"));
    eprintln!("{}; the sum of their traces is {:016x}", seeds.progress(), seeds.sum.load(Relaxed));
    // For `tests/promises`.
    println!("figure: {} seeds from {} on, none broke an invariant", seeds.count, seeds.from);
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..number("STEADFAST_TWICE").unwrap_or(TWICE) {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
}
