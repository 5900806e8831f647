use super::*;
use crate::testing::Folder;
use control::{
    desired::{AdminState, Drain, DrainMode, Share, Then},
    release::{Percent, RampPlan, ReleaseState, Watch},
    spec::{Backend, Span},
};
use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

fn member(address: &str) -> Member {
    Member::new(&Backend { address: address.into(), ..Backend::default() }, 7)
}

fn pool(name: &str, members: &[&str]) -> PoolState {
    let settings = Pool { name: name.into(), ..Pool::default() };
    let members = members.iter().map(|name| ((*name).to_owned(), member("10.0.0.1:80"))).collect();
    PoolState { settings, members }
}

fn put(name: &str, members: &[&str]) -> Change {
    Change::PutPool { name: name.into(), pool: Box::new(pool(name, members)) }
}

fn commit(store: &Store, changes: Vec<Change>) {
    store.commit(&Batch { changes, ..Batch::default() }).unwrap();
}

#[test]
fn every_change_is_there_after_a_restart() {
    let folder = Folder::new();
    let path = folder.path().join("admin.redb");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), Stored::default());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let drain = Drain {
        mode: DrainMode::Migrate,
        since: 5,
        deadline: Some(9),
        share: Share::new(0.5),
        then: Some(Then::Remove),
    };
    let draining = Member { admin_state: AdminState::Draining, drain: Some(drain), ..member("app.internal:80") };
    let other = Pool { name: "shop".into(), balance: control::spec::Balance::P2c, ..Pool::default() };
    let sections: Sections = [("shop".into(), Section { said: other.clone(), deleted: true })].into();
    commit(&store, vec![put("shop", &["a", "b"]), put("shop2", &["x"]), put("shoe", &["y"]), put("gone", &["z"])]);
    commit(
        &store,
        vec![
            Change::PutMember { pool: "shop".into(), name: "c".into(), member: draining.clone() },
            Change::RemoveMember { pool: "shop".into(), name: "a".into() },
            Change::PutSettings { name: "shop".into(), settings: Box::new(other.clone()) },
            Change::RemovePool { name: "gone".into() },
            put("shop2", &["x2"]),
        ],
    );
    store.commit(&Batch { sections: Some(sections.clone()), bound: Some(2_048), ..Batch::default() }).unwrap();
    drop(store);

    let stored = Store::open(&path).unwrap().load().unwrap();
    let mut shop = pool("shop", &["b"]);
    shop.members.insert("c".into(), draining);
    shop.settings = other;
    let pools = [("shop", shop), ("shop2", pool("shop2", &["x2"])), ("shoe", pool("shoe", &["y"]))];
    let pools = pools.into_iter().map(|(name, pool)| (name.to_owned(), pool)).collect();
    assert_eq!(stored, Stored { pools, sections, bound: 2_048, ..Stored::default() });
}

#[test]
fn a_store_can_be_made_anew_in_one_commit() {
    let folder = Folder::new();
    let store = Store::open(&folder.path().join("admin.redb")).unwrap();
    commit(&store, vec![put("old", &["a"])]);
    store.commit(&Batch { clear: true, changes: vec![put("new", &["b"])], ..Batch::default() }).unwrap();
    assert_eq!(store.load().unwrap().pools, [("new".to_owned(), pool("new", &["b"]))].into());
}

fn release(id: u32) -> Release {
    let steps = vec![Percent::new(0.5).unwrap(), Percent::ALL];
    let watch = Watch { login_path: Some("/login".into()), ..Watch::default() };
    let plan = RampPlan { steps, hold: Span::from_secs(60), harm: 0.1, alpha: 0.01, watch };
    let state = ReleaseState::Running;
    Release { id, plan, state, step: 1, since: 5, step_since: 6, passed: Vec::new(), stopped: None }
}

#[test]
fn a_release_is_kept_as_long_as_its_pool() {
    let folder = Folder::new();
    let store = Store::open(&folder.path().join("admin.redb")).unwrap();
    let let_go = |pool: &str, id| Change::PutRelease { pool: pool.into(), release: Box::new(release(id)) };
    commit(&store, ["a", "b", "c"].map(|name| put(name, &[])).into());
    commit(&store, vec![let_go("a", 1), let_go("b", 2), let_go("c", 3), let_go("c", 4)]);
    let stored =
        |store: &Store| store.load().unwrap().releases.into_iter().map(|(pool, it)| (pool, it.id)).collect::<Vec<_>>();
    assert_eq!(store.load().unwrap().releases["a"], release(1));
    commit(&store, vec![Change::RemoveRelease { pool: "a".into() }, Change::RemovePool { name: "b".into() }]);
    assert_eq!(stored(&store), [("c".to_owned(), 4)]);
    store.commit(&Batch { clear: true, changes: vec![put("c", &[])], ..Batch::default() }).unwrap();
    assert_eq!(stored(&store), []);
}

#[test]
fn a_store_from_before_releases_is_read() {
    let folder = Folder::new();
    let store = Store::open(&folder.path().join("admin.redb")).unwrap();
    commit(&store, vec![put("shop", &["a"])]);
    let transaction = store.database.begin_write().unwrap();
    assert!(transaction.delete_table(RELEASES).unwrap());
    transaction.commit().unwrap();
    assert_eq!(store.load().unwrap().pools.len(), 1);
}

#[test]
fn says_who_has_it_open() {
    let folder = Folder::new();
    let path = folder.path().join("admin.redb");
    let _first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert_eq!(error, format!("the store {} is in use by another process", path.display()));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = Folder::new();
    let path = folder.path().join("admin.redb");
    let store = Store::open(&path).unwrap();
    commit(&store, vec![put("shop", &[])]);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("has format 2 and this version reads format 1"), "{error}");
}

#[test]
fn a_row_of_a_newer_version_is_named() {
    let folder = Folder::new();
    let store = Store::open(&folder.path().join("admin.redb")).unwrap();
    commit(&store, vec![put("shop", &[])]);
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(SETTINGS).unwrap().insert("shop", br#"{"name":"shop","warp":9}"#.as_slice()).unwrap();
    transaction.commit().unwrap();
    let error = store.load().unwrap_err().to_string();
    assert!(error.contains("a row for pool `shop` that this version can't read: unknown field `warp`"), "{error}");
}

/// Whatever became of the file, the store opens with what was committed, or says in one line that it won't.
#[test]
fn garbage_and_torn_files_are_refused_in_one_line() {
    let folder = Folder::new();
    let path = folder.path().join("admin.redb");
    let store = Store::open(&path).unwrap();
    let names: Vec<_> = (0..200).map(|number| format!("app-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    commit(&store, vec![put("shop", &names)]);
    let whole = store.load().unwrap();
    drop(store);
    let bytes = fs::read(&path).unwrap();

    let refused = |what: &str, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match Store::open(&path).and_then(|store| store.load()) {
            Ok(stored) => assert_eq!(stored, whole, "{what}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("the store {} ", path.display())), "{what}: {error}");
                assert!(!error.contains('\n'), "{what}: {error}");
                return true;
            }
        }
        false
    };
    assert!(refused("text", b"no store at all, only a text that somebody put here\n"));
    assert!(refused("one byte", b"r"));
    assert!(refused("zeros", &[0; 4_096]));
    assert!(refused("half", &bytes[..bytes.len() / 2]));
    assert!(refused("the first page", &bytes[..4_096]));
    let mut caught = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 64) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x40;
        caught += u32::from(refused(&format!("a flipped bit at {at}"), &flipped));
    }
    assert!(caught > 0, "no flipped bit hit anything that matters");
}

#[test]
fn ten_thousand_members_load_in_well_under_a_second() {
    let folder = Folder::new();
    let path = folder.path().join("admin.redb");
    let store = Store::open(&path).unwrap();
    let names: Vec<_> = (0..10_000).map(|number| format!("app-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    commit(&store, vec![put("shop", &names)]);
    drop(store);
    let start = Instant::now();
    let stored = Store::open(&path).unwrap().load().unwrap();
    let took = start.elapsed();
    assert_eq!(stored.pools["shop"].members.len(), 10_000);
    println!("10,000 members: {took:?}");
    assert!(took.as_millis() < 1_000, "{took:?}");
}

/// A process that was killed while it made its first store left a file that no later start could open.
#[test]
fn a_store_is_made_whole_or_not_at_all() {
    let folder = Folder::new();
    let (path, half) = (folder.path().join("admin.redb"), folder.path().join("admin.redb.new"));
    for left in [&[0u8; 8 << 10][..], b""] {
        fs::write(&half, left).unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), Stored::default());
        assert!(!half.exists() && path.metadata().unwrap().permissions().mode() & 0o777 == 0o600);
        drop(store);
        // What a version left that made it in its place.
        fs::write(&path, b"").unwrap();
    }
}
