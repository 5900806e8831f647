//! The ledgers of all data planes, summed.

use control::{cost::Moved, status::PoolStats};
use std::collections::BTreeMap;

/// In the order of kind, cause, from and to.
pub(super) fn sum<'a>(stats: impl Iterator<Item = &'a PoolStats>) -> Vec<Moved> {
    let mut sums: BTreeMap<_, u64> = BTreeMap::new();
    for Moved { kind, cause, from, to, count } in stats.filter_map(|stats| stats.ledger.as_ref()).flatten() {
        *sums.entry((kind, cause, from, to)).or_default() += count;
    }
    let sums = sums.into_iter().map(|((kind, cause, from, to), count)| Moved {
        kind: kind.clone(),
        cause: cause.clone(),
        from: from.clone(),
        to: to.clone(),
        count,
    });
    sums.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_moves_of_two_data_planes_are_one_entry() {
        let moved = |from: Option<&str>, count| Moved {
            kind: "repinned".into(),
            cause: "down".into(),
            from: from.map(str::to_owned),
            to: Some("b".into()),
            count,
        };
        let stats = |ledger| PoolStats { ledger, ..PoolStats::default() };
        let stats = [
            stats(Some(vec![moved(Some("a"), 2)])),
            stats(None),
            stats(Some(vec![moved(Some("a"), 3), moved(None, 1)])),
        ];
        assert_eq!(sum(stats.iter()), [moved(None, 1), moved(Some("a"), 5)]);
    }
}
