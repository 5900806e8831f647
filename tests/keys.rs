//! Keys of the affinity tokens: what is seen of them, when one may go, and nodes that share them by a file.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{Folder, Instance, Setup, eventually, http::get, peers::Nginx};

const COOKIE: &str = "lb-affinity";
const UNCHECKED: &str = "[pool.affinity.cookie]\nidle_timeout = \"30m\"\n[pool.health]\ncheck = \"off\"\n";

#[track_caller]
fn keys(instance: &Instance) -> Vec<Value> {
    let (status, keys) = instance.api("GET", "/v1/keys", None);
    assert_eq!(status, 200, "{keys}");
    keys.as_array().unwrap().clone()
}

/// The keys once so many tokens of them were seen, in their order.
#[track_caller]
fn seen(instance: &Instance, tokens: &[u64]) -> Vec<Value> {
    eventually(&format!("{tokens:?} tokens are seen"), || {
        let keys = keys(instance);
        keys.iter().map(|key| key["tokens"]["since_start"].as_u64().unwrap()).eq(tokens.iter().copied()).then_some(keys)
    })
}

/// A session that begins: who serves it, and its cookie.
#[track_caller]
fn begin(instance: &Instance) -> (String, String) {
    let response = get(&instance.listener("web"), "/", &[]);
    (response.text(), response.cookie(COOKIE).unwrap())
}

#[track_caller]
fn rotate(instance: &Instance) {
    let (status, answer) = instance.api("POST", "/v1/keys/rotate", Some(json!({ "keep": 4 })));
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
}

#[test]
fn tokens_are_counted_by_the_key_that_sealed_them() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop(UNCHECKED, nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (home, old) = begin(&instance);
    let first = seen(&instance, &[0])[0].clone();
    assert!(first["added"].is_u64() && first["last_seen"].is_null() && first["oldest"].is_null(), "{first}");
    for _ in 0..3 {
        assert_eq!(get(&address, "/", &[("Cookie", &old)]).text(), home);
    }
    rotate(&instance);
    let renewed = get(&address, "/", &[("Cookie", &old)]).cookie(COOKIE).unwrap();
    for _ in 0..2 {
        assert_eq!(get(&address, "/", &[("Cookie", &renewed)]).text(), home);
    }
    let keys = seen(&instance, &[2, 4]);
    assert_eq!((&keys[1]["key"], &keys[1]["seals"], &keys[0]["seals"]), (&first["key"], &json!(false), &json!(true)));
    for (key, count) in keys.iter().zip([2, 4]) {
        let tokens = json!({ "last_1m": count, "last_5m": count, "last_1h": count, "since_start": count });
        assert_eq!(key["tokens"], tokens, "{key}");
        let ages = json!({ "under_1h": count, "under_1d": 0, "under_7d": 0, "older": 0 });
        assert_eq!((&key["ages"], &key["oldest"]), (&ages, &json!("under_1h")));
        assert!(key["last_seen"].is_u64() && key["may_go"] == false, "{key}");
        let name = key["key"].as_str().unwrap();
        assert_eq!(instance.metric(&format!("steadfast_key_tokens_total{{key=\"{name}\",age=\"under_1h\"}}")), count);
    }
    assert!(keys[1]["why"].as_str().unwrap().contains("wait for the 30m"), "{}", keys[1]);

    let shown = instance.ctl(&["keys"]);
    let names: Vec<_> = keys.iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert!(shown.stdout.lines().skip(1).zip(&names).all(|(line, name)| line.starts_with(name)), "{shown:?}");
    assert!(shown.stdout.contains("under 1h"), "{shown:?}");
}

#[test]
fn a_key_goes_once_it_seals_nothing_and_nobody_needs_it_or_by_force() {
    let nginx = Nginx::start(&["a", "b"]);
    let instance = Setup::shop(UNCHECKED, nginx.backends.clone()).start();
    let address = instance.listener("web");
    let (_, old) = begin(&instance);
    rotate(&instance);
    let tokens = || keys(&instance).iter().map(|key| key["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let [new, first] = tokens().try_into().unwrap();

    let refused = |path: &str, status: u16, says: &str| {
        let (found, problem) = instance.api("DELETE", &format!("/v1/keys/{path}"), None);
        assert!(found == status && problem["detail"].as_str().unwrap().contains(says), "{path}: {problem}");
    };
    refused(&new, 409, "seals: rotate the keys first");
    refused(&format!("{new}?force=true"), 409, "seals");
    refused(&first, 409, "is still needed: it sealed, or one of its tokens came, ");
    refused("zzzz", 404, &format!("there is no key `zzzz`; the keys are `{new}`, `{first}`"));
    let text = instance.ctl(&["keys", "remove", &first]).stderr;
    assert!(text.starts_with("refused with 409: ") && text.contains("?force=true"), "{text}");
    let (status, problem) = instance.api("DELETE", &format!("/v1/keys/{first}?force=perhaps"), None);
    assert_eq!(status, 422, "{problem}");

    let removed = instance.ctl(&["keys", "remove", &first, "--force"]);
    assert!(removed.stdout.starts_with("keys that open tokens now: 1\ngeneration "), "{removed:?}");
    assert!(removed.stdout.ends_with("applied by 2 workers\n"), "{removed:?}");
    assert_eq!(tokens(), std::slice::from_ref(&new));
    // By the time that it was answered, no worker opened its tokens.
    for _ in 0..8 {
        assert!(get(&address, "/", &[("Cookie", &old)]).cookie(COOKIE).is_some());
    }
    eventually("the tokens are of an unknown key", || (instance.pool_count("token_unknown_key") == 8).then_some(()));
    let text = std::fs::read_to_string(instance.folder.path("state/keys")).unwrap();
    assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1, "it is gone from the file too");
    assert_eq!(
        instance.ctl(&["keys", "rotate", "--keep", "2"]).stdout.lines().next(),
        Some("2 keys open tokens, 0 no longer does")
    );
    assert_eq!(tokens()[1], new);
}

#[test]
fn a_key_that_no_pool_has_tokens_of_may_go_at_once() {
    let pool = "affinity.mode = \"source-ip\"\n[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, [("a", "127.0.0.1:9")]).start();
    rotate(&instance);
    let old = keys(&instance)[1].clone();
    assert_eq!((&old["may_go"], old["tokens"]["since_start"].as_u64()), (&json!(true), Some(0)), "{old}");
    let (status, answer) = instance.api("DELETE", &format!("/v1/keys/{}", old["key"].as_str().unwrap()), None);
    assert_eq!((status, &answer["keys"]), (200, &json!(1)), "{answer}");
}

#[test]
fn nodes_that_share_the_file_decide_alike_and_reload_what_one_of_them_changed() {
    let nginx = Nginx::start(&["a", "b", "c", "d"]);
    let shared = Folder::new();
    let file = shared.path("keys");
    let node = || {
        let setup = Setup::shop(UNCHECKED, nginx.backends.clone()).membership("file");
        setup.global(&format!("workers = 2\nkeys_file = {file:?}"))
    };
    // Both find no file, and one of them makes it.
    let (mut one, mut two) = (node().launch(|_| ()), node().launch(|_| ()));
    one.ready();
    two.ready();
    let names = |instance: &Instance| keys(instance).iter().map(|key| key["key"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&two));
    let homes = |instance: &Instance, sessions: &[(String, String)]| -> Vec<String> {
        let address = instance.listener("web");
        sessions.iter().map(|(_, cookie)| get(&address, "/", &[("Cookie", cookie)]).text()).collect()
    };
    let sessions: Vec<_> = (0..24).map(|_| begin(&one)).collect();
    let begun: Vec<_> = sessions.iter().map(|(home, _)| home.clone()).collect();
    assert_eq!(begun.iter().collect::<BTreeSet<_>>().len(), 4, "{begun:?}");
    assert_eq!(homes(&two, &sessions), begun);

    rotate(&one);
    let later: Vec<_> = (0..8).map(|_| begin(&one)).collect();
    homes(&two, &later);
    eventually("the other does not know the key yet", || (two.pool_count("token_unknown_key") == 8).then_some(()));
    assert_eq!(two.api("POST", "/v1/reload", None).0, 200);
    assert_eq!(names(&one), names(&two));
    let begun: Vec<_> = later.iter().map(|(home, _)| home.clone()).collect();
    assert_eq!(homes(&two, &later), begun);
    assert_eq!(homes(&two, &sessions), homes(&one, &sessions));
    // The one that wrote the file has said when, and the other has read it.
    assert_eq!(keys(&one)[0]["added"], keys(&two)[0]["added"]);
    assert!(keys(&two)[0]["added"].is_u64());
}

#[test]
fn a_key_that_every_node_has_before_it_seals_costs_no_session() {
    let nginx = Nginx::start(&["a", "b"]);
    let shared = Folder::new();
    let file = shared.path("keys");
    let node = || {
        let setup = Setup::shop(UNCHECKED, nginx.backends.clone()).membership("file");
        setup.global(&format!("workers = 2\nkeys_file = {file:?}")).start()
    };
    let (one, two) = (node(), node());
    let names = |instance: &Instance| -> Vec<String> {
        keys(instance).iter().map(|key| key["key"].as_str().unwrap().to_owned()).collect()
    };
    let old = names(&one)[0].clone();
    // A key is newer by whole seconds.
    let new = eventually("a newer key stands behind", || {
        assert_eq!(one.ctl(&["keys", "rotate", "--behind", "--keep", "2"]).code, Some(0));
        let [seals, behind] = <[Value; 2]>::try_from(keys(&one)).unwrap();
        assert!(seals["key"] == old && seals["seals"] == true && behind["seals"] == false, "{seals} {behind}");
        let why = behind["why"].as_str().unwrap();
        (behind["added"].as_u64() > seals["added"].as_u64()).then(|| {
            assert!(behind["may_go"] == false && why.contains("to seal next"), "{behind}");
            behind["key"].as_str().unwrap().to_owned()
        })
    });
    assert_eq!(two.ctl(&["reload"]).code, Some(0));
    let sealed = one.ctl(&["keys", "seal", &new]);
    assert!(sealed.stdout.starts_with("keys that open tokens now: 2\n"), "{sealed:?}");
    assert_eq!(names(&one), [new.as_str(), old.as_str()]);
    // The other seals with the old one still, and opens what the new one has sealed.
    assert_eq!(names(&two), [old.as_str(), new.as_str()]);
    for (from, to) in [(&one, &two), (&two, &one)] {
        for _ in 0..8 {
            let (home, cookie) = begin(from);
            assert_eq!(get(&to.listener("web"), "/", &[("Cookie", &cookie)]).text(), home);
        }
    }
    for instance in [&one, &two] {
        eventually("all have reached their pin", || (instance.pool_count("pinned") == 8).then_some(()));
        assert_eq!(instance.pool_count("token_unknown_key"), 0);
    }
    let (status, problem) = one.api("POST", "/v1/keys/0000/seal", None);
    assert_eq!(status, 404, "{problem}");
    let (status, problem) = one.api("POST", "/v1/keys/rotate", Some(json!({ "keep": 1, "seals": false })));
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/keep")), "{problem}");
}
