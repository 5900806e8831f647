//! The whole, simulated: two nodes with their stores, control channels and data planes, operators and browsers, all by one
//! seed. After each step DESIGN's invariants 1 to 5, 8 and 9 are looked at.
//!
//! Real are the admin process (its state, writer, store, drains, health and REST, by the routes that a client calls), the
//! lines of the control channel, and the data plane (its control thread, mailboxes, workers and their choices). A model are the
//! disk, the kernel's sockets, the clocks, what probes find, backends, browsers and operators. No byte of a body is moved.
//!
//! `STEADFAST_SEED=7` runs that seed alone and tells its steps; `STEADFAST_SEEDS=100000` runs so many, from
//! `STEADFAST_FROM` on.

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
    sync::atomic::{AtomicU64, Ordering},
    thread,
};
use world::World;

/// Seeds of a usual run of the tests.
const SEEDS: u64 = 1_000;
const STEPS: usize = 250;
const THREADS: u64 = 2;

/// Runs a seed; how it ended, where that was badly, with its last steps.
fn run(seed: u64, tells: bool) -> Result<u64, String> {
    let ran = dataplane::simulation::within(|| {
        let mut world = World::new(seed);
        let mut at = 0;
        let ended = catch_unwind(AssertUnwindSafe(|| {
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
                let reason = reason.downcast_ref::<String>().cloned();
                let reason = reason.unwrap_or_else(|| "it panicked".to_owned());
                let last = &steps[steps.len().saturating_sub(40)..];
                Err(format!("seed {seed}, step {at}: {reason}\nthe last steps:\n{}\n", last.join("\n")))
            }
        }
    });
    ran.expect("io_uring, as the product needs it")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn the_invariants_hold_whatever_happens_in_whatever_order() {
    if let Some(seed) = number("STEADFAST_SEED") {
        run(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let (from, seeds) = (number("STEADFAST_FROM").unwrap_or(0), number("STEADFAST_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(from);
    let failures: Vec<String> = thread::scope(|scope| {
        let runs = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from + seeds || failures.len() >= 3 {
                    return failures;
                }
                failures.extend(run(seed, false).err());
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(runs)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of these seeds fail:\n{}", failures.len(), failures.join("\n"));
    // For `tests/promises`.
    println!("figure: {seeds} seeds from {from} on, none broke an invariant");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..number("STEADFAST_TWICE").unwrap_or(20) {
        assert_eq!(run(seed, false), run(seed, false), "seed {seed}");
    }
}
