//! What plans become, and what etcd's words come to; without an etcd.

use super::{
    mirror::{Mirror, Told, diff},
    rows::{Key, to_text},
    txn::{Compare, MAX_BYTES, MAX_OPS, Op, Txn, Wanted, everything, is_shared, txns},
    wire,
    write::supposed,
};
use crate::{
    store::{Section, Sections},
    testing::pool,
};
use control::{
    config::{Config, Membership, Source},
    desired::{Change, Desired, Member, PoolState},
    spec::{Backend, Balance, Discover, Pool},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PREFIX: &str = "/s";

/// An etcd of one node: what its transactions have led to.
#[derive(Default)]
struct Fake {
    rows: BTreeMap<String, (Vec<u8>, u64)>,
    revision: u64,
}

impl Fake {
    fn with(desired: &Desired, sections: &Sections) -> Self {
        let mut fake = Self::default();
        for (key, value) in everything(desired, sections) {
            fake.put(&key.path(PREFIX), &value);
        }
        fake
    }

    fn put(&mut self, path: &str, value: &str) -> Told {
        self.revision += 1;
        self.rows.insert(path.to_owned(), (value.as_bytes().to_vec(), self.revision));
        Told { key: path.as_bytes().to_vec(), value: Some(value.as_bytes().to_vec()), revision: self.revision }
    }

    fn told(&self) -> Vec<Told> {
        let told = self.rows.iter().map(|(path, (value, revision))| Told {
            key: path.as_bytes().to_vec(),
            value: Some(value.clone()),
            revision: *revision,
        });
        told.collect()
    }

    fn mirror(&self, known: &Desired) -> Mirror {
        let mut mirror = Mirror::new(PREFIX, &Sections::new(), 0);
        mirror.load(&self.told(), (self.revision, "1".to_owned()), known, &[]);
        mirror
    }

    /// Carries a transaction out, as etcd does: what happened, or none where something is otherwise.
    fn carry_out(&mut self, txn: &Txn, written: &mut BTreeMap<Key, u64>) -> Option<Vec<Told>> {
        assert!(txn.ops.len() <= MAX_OPS && txn.compares.len() <= MAX_OPS, "{} {}", txn.ops.len(), txn.compares.len());
        let holds = |compare: &Compare| match compare {
            Compare::Unchanged(key, revision) => {
                let now = self.rows.get(&key.path(PREFIX)).map_or(0, |row| row.1);
                now == *written.get(key).unwrap_or(revision)
            }
            Compare::NoneAfter(pool, revision) => {
                let of = format!("{PREFIX}/members/{pool}/");
                self.rows.iter().filter(|(path, _)| path.starts_with(&of)).all(|(_, row)| row.1 <= *revision)
            }
        };
        if !txn.compares.iter().all(holds) {
            return None;
        }
        self.revision += 1;
        let (revision, mut happened) = (self.revision, Vec::new());
        for op in &txn.ops {
            let (path, value) = match op {
                Op::Put(key, value) => (key.path(PREFIX), Some(value.as_bytes().to_vec())),
                Op::Delete(key) => (key.path(PREFIX), None),
                Op::DeleteMembers(pool) => {
                    let of = format!("{PREFIX}/members/{pool}/");
                    let gone: Vec<_> = self.rows.keys().filter(|path| path.starts_with(&of)).cloned().collect();
                    for path in gone {
                        self.rows.remove(&path);
                        happened.push(Told { key: path.into_bytes(), value: None, revision });
                    }
                    continue;
                }
            };
            match &value {
                Some(value) => drop(self.rows.insert(path.clone(), (value.clone(), revision))),
                None => drop(self.rows.remove(&path)),
            }
            if let Op::Put(key, _) | Op::Delete(key) = op {
                written.insert(key.clone(), if value.is_some() { revision } else { 0 });
            }
            happened.push(Told { key: path.into_bytes(), value, revision });
        }
        Some(happened)
    }
}

fn shop(backends: &[(&str, &str)]) -> Desired {
    let state = PoolState::seed(pool("shop", backends), 1);
    Desired { pools: [("shop".to_owned(), state)].into(), ..Desired::default() }
}

fn member(address: &str, incarnation: u32) -> Member {
    Member::new(&Backend { address: address.to_owned(), ..Backend::default() }, incarnation)
}

fn put(name: &str, member: Member) -> Change {
    Change::PutMember { pool: "shop".to_owned(), name: name.to_owned(), member }
}

fn wanted<'p>(changes: &'p [Change], whole: &'p BTreeSet<String>) -> Wanted<'p> {
    Wanted { changes, sections: None, whole }
}

fn told(path: &str, value: Option<&str>, revision: u64) -> Told {
    Told { key: path.as_bytes().to_vec(), value: value.map(|value| value.as_bytes().to_vec()), revision }
}

#[test]
fn a_write_of_one_member_rests_on_it_and_on_its_pool_alone() {
    let known = shop(&[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]);
    let mut etcd = Fake::with(&known, &Sections::new());
    let mirror = etcd.mirror(&known);
    let none = BTreeSet::new();
    let changes = [put("a", member("10.0.0.9:80", 1)), put("a", member("10.0.0.8:80", 1))];
    let [txn] = txns(&mirror, &known, wanted(&changes, &none)).try_into().unwrap();
    assert_eq!(txn.ops.len(), 1, "one key is written once: {:?}", txn.ops);
    assert_eq!(txn.compares.len(), 2, "{:?}", txn.compares);
    // Somebody else's write of another member is in nobody's way, and one of the same is.
    etcd.put("/s/members/shop/b", "{\"address\": \"10.0.0.3:80\"}");
    assert!(etcd.carry_out(&txn, &mut BTreeMap::new()).is_some());
    assert!(etcd.carry_out(&txn, &mut BTreeMap::new()).is_none());
    // A plan that looked at all members rests on all of them.
    let mirror = etcd.mirror(&known);
    let whole = ["shop".to_owned()].into();
    let [txn] = txns(&mirror, &known, wanted(&changes, &whole)).try_into().unwrap();
    etcd.put("/s/members/shop/c", "{\"address\": \"10.0.0.3:80\"}");
    assert!(etcd.carry_out(&txn, &mut BTreeMap::new()).is_none(), "one has come");
}

#[test]
fn a_pool_that_is_new_is_there_with_the_last_step_and_one_that_goes_is_gone_with_the_first() {
    let names: Vec<_> = (0..MAX_OPS * 2 + 50).map(|at| format!("n-{at}")).collect();
    let backends: Vec<_> = names.iter().map(|name| (name.as_str(), "10.0.0.1:80")).collect();
    let state = PoolState::seed(pool("big", &backends), 7);
    let known = shop(&[("a", "10.0.0.1:80")]);
    let mut etcd = Fake::with(&known, &Sections::new());
    // What is left of a namesake is none of its members.
    etcd.put("/s/members/big/left", "{\"address\": \"10.0.0.3:80\"}");
    let mut mirror = etcd.mirror(&known);
    let (mut seen, whole) = (known.clone(), ["big".to_owned()].into());
    let begin = [Change::PutPool { name: "big".to_owned(), pool: Box::new(state.clone()) }];
    let steps = txns(&mirror, &known, wanted(&begin, &whole));
    assert!(steps.len() >= 3);
    let (mut written, last) = (BTreeMap::new(), steps.len() - 1);
    for (at, step) in steps.iter().enumerate() {
        let happened = etcd.carry_out(step, &mut written).unwrap();
        let touched = mirror.follow(&happened, &[]);
        for change in mirror.changes(&seen, &touched.pools) {
            seen.apply(&change);
        }
        assert_eq!(seen.pools.get("big"), (at == last).then_some(&state), "step {at}");
    }
    let end = [Change::RemovePool { name: "big".to_owned() }];
    let [step] = txns(&mirror, &seen, wanted(&end, &whole)).try_into().unwrap();
    let happened = etcd.carry_out(&step, &mut BTreeMap::new()).unwrap();
    let touched = mirror.follow(&happened, &[]);
    assert_eq!(mirror.changes(&seen, &touched.pools), end);
    assert!(etcd.rows.keys().all(|path| !path.contains("big")), "{:?}", etcd.rows.keys());
}

#[test]
fn a_transaction_is_no_larger_than_etcd_takes() {
    let mut settings = pool("shop", &[]);
    settings.discover = (0..4_000)
        .map(|at| Discover { name: format!("d{at}"), address: format!("d{at}.internal:80"), ..Discover::default() })
        .collect();
    let size = to_text(&settings).len();
    let changes: Vec<_> = (0..8)
        .map(|at| Change::PutPool {
            name: format!("p{at}"),
            pool: Box::new(PoolState {
                settings: Pool { name: format!("p{at}"), ..settings.clone() },
                ..PoolState::default()
            }),
        })
        .collect();
    assert!(size * 8 > MAX_BYTES, "{size}");
    let known = Desired::default();
    let steps = txns(&Fake::default().mirror(&known), &known, wanted(&changes, &BTreeSet::new()));
    let bytes = |txn: &Txn| wire::txn(txn, PREFIX, |_| None).to_string().len();
    assert!(steps.len() > 1 && steps.iter().all(|step| bytes(step) < MAX_BYTES * 3 / 2), "{}", steps.len());
}

#[test]
fn a_section_is_written_where_it_changed_and_the_mark_of_a_removed_pool_goes_with_it() {
    let known = shop(&[("a", "10.0.0.1:80")]);
    let section = |deleted| Section { said: pool("shop", &[]), deleted };
    let before: Sections = [("shop".to_owned(), section(false)), ("old".to_owned(), section(true))].into();
    let etcd = Fake::with(&known, &before);
    let after: Sections = [("shop".to_owned(), section(true)), ("old".to_owned(), section(true))].into();
    let changes = [Change::RemovePool { name: "shop".to_owned() }];
    let whole = BTreeSet::new();
    let wanted = Wanted { sections: Some(&after), ..wanted(&changes, &whole) };
    let [txn] = txns(&etcd.mirror(&known), &known, wanted).try_into().unwrap();
    let written: Vec<_> = txn.ops.iter().filter(|op| matches!(op, Op::Put(..))).collect();
    assert!(matches!(written.as_slice(), [Op::Put(Key::Section(pool), _)] if pool == "shop"), "{written:?}");
}

#[test]
fn what_can_not_be_used_leaves_the_last_good_one_and_is_told_until_it_is_mended() {
    let known = shop(&[("a", "10.0.0.1:80")]);
    let etcd = Fake::with(&known, &Sections::new());
    let mut mirror = etcd.mirror(&known);
    let (path, next) = ("/s/members/shop/a", etcd.revision + 1);
    for bad in ["{}", "no", "{\"address\": \"10.0.0.1:80\", \"weight\": 5000}"] {
        let touched = mirror.follow(&[told(path, Some(bad), next)], &[]);
        assert_eq!(mirror.changes(&known, &touched.pools), [], "{bad}");
        let [problem] = mirror.problems().try_into().unwrap();
        assert!(problem.contains(path) && problem.contains("what was there before stays"), "{problem}");
    }
    // The revision is that of the bad one: a write over REST mends it.
    assert_eq!(mirror.revision_of(&Key::Member("shop".to_owned(), "a".to_owned())), next);
    // Whoever starts anew knows the last good one from its own store.
    let rows = [told(path, Some("{}"), next), told("/s/pools/shop", Some(&to_text(&known.pools["shop"].settings)), 1)];
    let mut anew = Mirror::new(PREFIX, &Sections::new(), 0);
    anew.load(&rows, (next, "1".to_owned()), &known, &[]);
    assert_eq!(anew.desired().pools, known.pools);
    anew.load(&rows, (next, "1".to_owned()), &Desired::default(), &[]);
    assert!(anew.desired().pools["shop"].members.is_empty() && anew.problems()[0].contains("counts as absent"));
    mirror.follow(&[told(path, Some("{\"address\": \"10.0.0.1:80\"}"), next + 1)], &[]);
    assert_eq!(mirror.problems(), [""; 0]);
    for (path, about) in [("/s/members/ghost/a", "no pool `/s/pools/ghost`"), ("/s/pool/x", "there is no such key")] {
        mirror.follow(&[told(path, Some("{\"address\": \"10.0.0.1:80\"}"), next + 2)], &[]);
        assert!(mirror.problems()[0].contains(about), "{:?}", mirror.problems());
        mirror.follow(&[told(path, None, next + 3)], &[]);
        assert_eq!(mirror.problems(), [""; 0]);
    }
}

#[test]
fn a_prefix_that_is_emptied_is_seen_as_that_and_one_that_is_replaced_is_not() {
    let known = shop(&[("a", "10.0.0.1:80")]);
    let etcd = Fake::with(&known, &Sections::new());
    let mut mirror = etcd.mirror(&known);
    let gone = |path: &str| told(path, None, 99);
    let emptied = [gone("/s/format"), gone("/s/members/shop/a"), gone("/s/pools/shop")];
    assert!(mirror.follow(&emptied, &[]).wiped);
    assert_eq!(mirror.desired().pools, known.pools, "nothing of it is taken over");
    let replaced = [&emptied[..], &[told("/s/format", Some("1"), 100)]].concat();
    assert!(!mirror.follow(&replaced, &[]).wiped);
    assert!(mirror.desired().pools.is_empty());
}

#[test]
fn a_pool_that_the_file_brings_stays_while_it_is_written_step_by_step() {
    let config = Config {
        membership: Membership { source: Source::Etcd, etcd: None },
        pools: vec![pool("shop", &[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]), pool("api", &[("x", "10.0.0.3:80")])],
        ..Config::default()
    };
    let mut mirror = Mirror::new(PREFIX, &Sections::new(), 0);
    let all = supposed(&mirror, &config);
    assert_eq!(all.pools.len(), 2);
    mirror.follow(&[told("/s/members/shop/a", Some("{\"address\": \"10.0.0.1:80\"}"), 5)], &[]);
    assert_eq!(supposed(&mirror, &config).pools, all.pools, "its settings come last");
    // What the cluster has counts, and not what the file says of it.
    mirror.follow(&[told("/s/pools/shop", Some("{\"health\": {\"check\": \"off\"}}"), 6)], &[]);
    assert_eq!(supposed(&mirror, &config).pools["shop"].members.len(), 1);
    let buried = Section { said: config.pools[1].clone(), deleted: true };
    mirror.follow(&[told("/s/sections/api", Some(&to_text(&buried)), 7)], &[]);
    assert!(!supposed(&mirror, &config).pools.contains_key("api"), "somebody deleted it");
}

#[test]
fn lives_go_on_from_the_highest_number_whatever_etcd_says() {
    let mut mirror = Mirror::new(PREFIX, &Sections::new(), 5_000);
    assert_eq!(mirror.life(), 5_000);
    mirror.load(&[told("/s/base", Some("40"), 2)], (7, "1".to_owned()), &Desired::default(), &[]);
    assert_eq!((mirror.told_life(), mirror.life()), (47, 5_000));
    mirror.follow(&[told("/s/base", Some("6000"), 8)], &[]);
    assert_eq!(mirror.life(), 6_008);
    mirror.load(&[], (3, "2".to_owned()), &Desired::default(), &[]);
    assert_eq!(mirror.life(), 6_008, "it was made anew");
}

#[test]
fn a_member_whose_discover_is_gone_stays_as_one_that_can_be_removed() {
    let discover = Discover { name: "app".to_owned(), address: "app.internal:80".to_owned(), ..Discover::default() };
    let mut known = shop(&[]);
    let shop = known.pools.get_mut("shop").unwrap();
    shop.settings.discover = vec![discover.clone()];
    let found = Member::found(&discover, ([10, 0, 0, 1], 80).into());
    shop.members.insert("app-10.0.0.1".to_owned(), found.clone());
    let etcd = Fake::with(&known, &Sections::new());
    let mut mirror = etcd.mirror(&known);
    assert_eq!(mirror.desired().pools, known.pools);
    let bare = to_text(&pool("shop", &[]));
    mirror.follow(&[told("/s/pools/shop", Some(&bare), 50)], &[]);
    assert_eq!(mirror.pool("shop").unwrap().members["app-10.0.0.1"], Member { found: None, ..found });
}

#[test]
fn what_is_this_nodes_own_is_written_nowhere() {
    let known = shop(&[("a", "10.0.0.1:80")]);
    let own = [
        Change::Keys { keys: Vec::new() },
        Change::Listeners { listeners: Vec::new() },
        Change::Rebalance { pool: "shop".to_owned(), round: None },
        Change::Observe {
            pool: "shop".to_owned(),
            name: "a".to_owned(),
            observed: control::desired::Observed::default(),
        },
    ];
    assert!(own.iter().all(|change| !is_shared(change)));
    let etcd = Fake::with(&known, &Sections::new());
    assert_eq!(txns(&etcd.mirror(&known), &known, wanted(&own, &BTreeSet::new())), []);
}

fn any_desired() -> impl Strategy<Value = Desired> {
    let member = (1..4u8, 0..3u32, 1..3u32)
        .prop_map(|(last, weight, incarnation)| Member { weight, ..member(&format!("10.0.0.{last}:80"), incarnation) });
    let members = proptest::collection::btree_map("[a-d]", member, 0..4);
    let balance = prop_oneof![Just(Balance::RoundRobin), Just(Balance::Ring)];
    let state = (members, balance).prop_map(|(members, balance)| (members, balance));
    proptest::collection::btree_map("(shop|api|x)", state, 0..3).prop_map(|pools| {
        let pools = pools.into_iter().map(|(name, (members, balance))| {
            let settings = Pool { balance, ..pool(&name, &[]) };
            (name, PoolState { settings, members })
        });
        Desired { pools: pools.collect(), ..Desired::default() }
    })
}

proptest! {
    /// From any state to any other: what is written is what is wanted, whoever hears of it gets there by the least
    /// changes, and whoever reads all of it finds nothing to change.
    #[test]
    fn what_is_wanted_is_written_and_heard(from in any_desired(), to in any_desired()) {
        let pools: BTreeSet<_> = from.pools.keys().chain(to.pools.keys()).cloned().collect();
        let changes = diff(&from, &to, &pools);
        let mut etcd = Fake::with(&from, &Sections::new());
        let mut mirror = etcd.mirror(&Desired::default());
        prop_assert_eq!(&mirror.desired(), &from);
        let (mut written, mut heard) = (BTreeMap::new(), from.clone());
        for txn in txns(&mirror, &from, wanted(&changes, &pools)) {
            let happened = etcd.carry_out(&txn, &mut written).expect("nobody else writes");
            let touched = mirror.follow(&happened, &[]);
            for change in mirror.changes(&heard, &touched.pools) {
                heard.apply(&change);
            }
        }
        prop_assert_eq!(&heard, &to);
        let anew = etcd.mirror(&Desired::default());
        prop_assert_eq!(&anew.desired(), &to);
        prop_assert_eq!(diff(&to, &anew.desired(), &pools), vec![]);
    }
}

#[test]
fn where_nodes_are_is_no_change_of_what_is_desired() {
    let known = shop(&[("a", "10.0.0.1:80")]);
    let etcd = Fake::with(&known, &Sections::new());
    let mut mirror = etcd.mirror(&known);
    let (path, next) = ("/s/nodes/lb-1", etcd.revision + 1);
    let row = |seen: u64| format!(r#"{{"admin": "http://10.0.0.5:9090", "version": "1", "seen": {seen}}}"#);
    for (value, seen) in [(Some(row(5)), Some(5)), (Some(row(65)), Some(65)), (None, None)] {
        let touched = mirror.follow(&[told(path, value.as_deref(), next)], &[]);
        assert!(touched.pools.is_empty() && !touched.sections && !touched.wiped, "{touched:?}");
        let nodes: Vec<_> = mirror.nodes().map(|(name, node)| (name, node.unwrap().seen)).collect();
        assert_eq!(nodes, seen.map(|seen| ("lb-1", seen)).into_iter().collect::<Vec<_>>());
        assert_eq!((mirror.desired().pools, mirror.problems()), (known.pools.clone(), Vec::new()));
    }
    mirror.follow(&[told(path, Some("{}"), next)], &[]);
    let (name, node) = mirror.nodes().next().unwrap();
    assert_eq!((name, node), ("lb-1", Err("missing field `admin` at line 1 column 2")));
    assert!(mirror.problems()[0].contains(path), "{:?}", mirror.problems());
}
