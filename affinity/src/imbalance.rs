//! How unevenly load lies on backends, by what each can bear.

/// What one backend bears, and its weight. Loads are in any one unit: sessions, requests, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub load: f64,
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Imbalance {
    /// The highest load per weight over the mean of all: 1 is even. The pool is full when its fullest backend is, so its
    /// inverse is the share of the capacity that can be used.
    pub max_over_mean: f64,
    /// 0 is even, towards 1 all lies on one (Gini 1912), each unit of weight counted as one bearer.
    pub gini: f64,
}

/// The imbalance of these loads; `None` where there is no load. Backends without weight bear nothing that balancing could
/// move, and are left out.
pub fn imbalance(loads: impl IntoIterator<Item = Load>) -> Option<Imbalance> {
    let mut loads: Vec<_> = loads.into_iter().filter(|load| load.weight > 0.0).collect();
    let (load, weight) = loads.iter().fold((0.0, 0.0), |(load, weight), each| (load + each.load, weight + each.weight));
    if load <= 0.0 {
        return None;
    }
    let per_weight = |each: &Load| each.load / each.weight;
    loads.sort_unstable_by(|one, other| per_weight(one).total_cmp(&per_weight(other)));
    let max_over_mean = loads.last().map_or(1.0, |most| per_weight(most) * weight / load);
    // Twice the area under the Lorenz curve, by trapezoids.
    let (mut below, mut area) = (0.0, 0.0);
    for each in &loads {
        area += each.weight * (2.0 * below + each.load);
        below += each.load;
    }
    Some(Imbalance { max_over_mean, gini: (1.0 - area / (weight * load)).max(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(loads: &[(f64, f64)]) -> Option<Imbalance> {
        imbalance(loads.iter().map(|&(load, weight)| Load { load, weight }))
    }

    #[test]
    fn known_loads_have_known_figures() {
        for (loads, max_over_mean, gini) in [
            (&[(5.0, 1.0), (5.0, 1.0)][..], 1.0, 0.0),
            (&[(10.0, 1.0), (0.0, 1.0)], 2.0, 0.5),
            (&[(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (8.0, 1.0)], 4.0, 0.75),
            (&[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0)], 1.6, 0.25),
            // A backend of weight 3 with three times the load bears as much as the others.
            (&[(30.0, 3.0), (10.0, 1.0)], 1.0, 0.0),
            (&[(10.0, 3.0), (10.0, 1.0)], 2.0, 0.25),
            // What has no weight is not balanced.
            (&[(5.0, 1.0), (5.0, 1.0), (50.0, 0.0)], 1.0, 0.0),
            (&[(7.0, 2.0)], 1.0, 0.0),
        ] {
            let found = of(loads).unwrap();
            assert!((found.max_over_mean - max_over_mean).abs() < 1e-9, "{loads:?}: {found:?}");
            assert!((found.gini - gini).abs() < 1e-9, "{loads:?}: {found:?}");
        }
        assert_eq!([of(&[]), of(&[(0.0, 1.0)]), of(&[(5.0, 0.0)])], [None; 3]);
    }

    #[test]
    fn a_backend_of_weight_two_is_as_good_as_two_of_one() {
        let (one, two) = (of(&[(6.0, 2.0), (1.0, 1.0)]).unwrap(), of(&[(3.0, 1.0), (3.0, 1.0), (1.0, 1.0)]).unwrap());
        assert!((one.gini - two.gini).abs() < 1e-9 && (one.max_over_mean - two.max_over_mean).abs() < 1e-9);
    }
}
