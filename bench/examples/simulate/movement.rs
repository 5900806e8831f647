//! How many hashed sessions a change of the members moves, beside what has to move and what plain modulo would.

use crate::{
    Report, Scale,
    plot::{Axes, Line, lines},
    random::Random,
    table::Markdown,
};
use affinity::ring::Ring;
use std::error::Error;

fn ring(members: &[(String, u32)]) -> Ring {
    let members: Vec<_> = members.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    Ring::build(&members)
}

fn members(count: usize) -> Vec<(String, u32)> {
    (0..count).map(|at| (format!("app-{at:05}"), 4)).collect()
}

struct Moved {
    /// Of all keys.
    share: f64,
    /// Those that neither left nor went to the backend that changed.
    needless: u64,
}

/// What moves from one list of members to another, where all but `changed` are the same in both.
fn moved(before: &[(String, u32)], after: &[(String, u32)], changed: &str, keys: u64, seed: u64) -> Moved {
    let (old, new) = (ring(before), ring(after));
    let mut random = Random::new(seed);
    let (mut count, mut needless) = (0u64, 0);
    for _ in 0..keys {
        let key = random.bits();
        let from = old.lookup(key).map(|at| before[usize::from(at)].0.as_str());
        let to = new.lookup(key).map(|at| after[usize::from(at)].0.as_str());
        if from != to {
            count += 1;
            needless += u64::from(from != Some(changed) && to != Some(changed));
        }
    }
    Moved { share: count as f64 / keys as f64, needless }
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (sizes, keys): (&[usize], _) = match scale {
        Scale::Short => (&[10, 100], 100_000),
        Scale::Full => (&[10, 100, 1_000, 10_000], 10_000_000),
    };
    let headings = [
        "backends",
        "one added",
        "has to",
        "one removed",
        "has to",
        "one doubled in weight",
        "has to",
        "moved for nothing",
    ];
    let mut table = Markdown::new(&headings);
    let (mut ours, mut ideal, mut modulo) = (Vec::new(), Vec::new(), Vec::new());
    for count in sizes {
        let (all, more) = (members(*count), members(count + 1));
        let last = &more[*count].0;
        let middle = &all[count / 2].0;
        let without: Vec<_> = all.iter().filter(|(name, _)| name != middle).cloned().collect();
        let heavier: Vec<_> =
            all.iter().map(|(name, weight)| (name.clone(), weight << u32::from(name == middle))).collect();
        let added = moved(&all, &more, last, keys, report.seed);
        let removed = moved(&all, &without, middle, keys, report.seed);
        let doubled = moved(&all, &heavier, middle, keys, report.seed);
        let n = *count as f64;
        let needless = added.needless + removed.needless + doubled.needless;
        let percent = |share: f64| format!("{:.4} %", 100.0 * share);
        table.row(&[
            &count.to_string(),
            &percent(added.share),
            &percent(1.0 / (n + 1.0)),
            &percent(removed.share),
            &percent(1.0 / n),
            &percent(doubled.share),
            &percent(2.0 / (n + 1.0) - 1.0 / n),
            &needless.to_string(),
        ]);
        report.check(needless == 0, || format!("{needless} keys moved for nothing at {count} backends"));
        ours.push((n, 100.0 * added.share));
        ideal.push((n, 100.0 / (n + 1.0)));
        modulo.push((n, 100.0 * n / (n + 1.0)));
    }
    let text = format!(
        "{keys} session keys on the ring before and after one change. This is about modes that hash, and about re-pins: a session with a token \
         moves for none of these changes, unless its own backend goes. \"Has to\" is the change of the share that the backend is due."
    );
    let axes = Axes {
        title: "Hashed sessions that move when one backend is added",
        x: "backends",
        y: "sessions moved, %",
        log_x: true,
        log_y: true,
    };
    let of = |name: &str, points| Line { name: name.to_owned(), points };
    let plot = [of("the ring", ours), of("what has to move", ideal), of("hash modulo backends", modulo)];
    report.section("movement", &text, &table, |path| lines(path, axes, &plot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_backend_takes_its_share_and_nothing_else_moves() {
        let moved = moved(&members(20), &members(21), "app-00020", 50_000, 1);
        assert_eq!(moved.needless, 0);
        assert!((moved.share * 21.0 - 1.0).abs() < 0.2, "{}", moved.share);
    }
}
