//! TLS to backends, with nginx behind it: whom it trusts, what it shows, and what follows where there is no agreement.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{
    Folder, Instance, Outcome, Setup, eventually,
    http::{Connection, get, request},
    peers::Nginx,
    pki::{Issued, Pki},
};

/// nginx with this certificate, whose servers say how they were spoken to.
fn nginx(issued: &Issued, more: &str) -> Nginx {
    let mut settings = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
        issued.chain.display(),
        issued.key.display()
    );
    settings += more;
    Nginx::start_with(&["a"], " ssl", &settings, "$ssl_server_name $ssl_client_s_dn $ssl_protocol")
}

fn setup(nginx: &Nginx, tls: &str) -> Setup {
    let pool =
        format!("[pool.health]\ncheck = \"http\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\n[pool.tls]\n{tls}\n");
    Setup::shop(&pool, nginx.backends.clone())
}

fn says(instance: &Instance) -> (u16, String) {
    let response = get(&instance.listener("web"), "/", &[]);
    (response.status, response.text())
}

fn count(instance: &Instance, name: &str) -> u64 {
    instance.backend("shop", "a")["counts"][name].as_u64().unwrap()
}

#[track_caller]
fn is_down(instance: &Instance, why: &str) {
    let reason = eventually("it is down", || {
        let backend = instance.backend("shop", "a");
        (backend["health"] == "down").then(|| backend["health_reason"].as_str().unwrap_or_default().to_owned())
    });
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn a_backend_has_to_show_a_certificate_for_its_name() {
    let (pki, other) = (Pki::new(), Pki::new());
    let by_address = nginx(&pki.issue("backend", "DNS:shop.test,IP:127.0.0.1"), "");
    let by_name = nginx(&pki.issue("named", "DNS:shop.test"), "");
    let trusted = format!("ca = {:?}\n", pki.ca());
    // The address in the certificate, with no name asked for; and a name.
    let instance = setup(&by_address, &trusted).start();
    assert_eq!(says(&instance), (200, "  TLSv1.3".to_owned()));
    let instance = setup(&by_name, &format!("{trusted}server_name = \"shop.test\"\n")).start();
    assert_eq!(says(&instance), (200, "shop.test  TLSv1.3".to_owned()));
    eventually("checks find it up", || (instance.backend("shop", "a")["health"] == "up").then_some(()));
    let unknown = format!("ca = {:?}\n", other.ca());
    for (nginx, tls, why) in [
        (&by_name, trusted.clone(), "not valid for name"),
        (&by_address, format!("{trusted}server_name = \"other.test\"\n"), "not valid for name"),
        (&by_address, unknown, "invalid peer certificate: "),
        (&by_address, String::new(), "invalid peer certificate: "),
    ] {
        let pool = format!("[pool.health]\ncheck = \"off\"\n[pool.tls]\n{tls}\n");
        let instance = Setup::shop(&pool, nginx.backends.clone()).start();
        assert_eq!(says(&instance).0, 503, "{tls}");
        eventually("it is counted", || (count(&instance, "tls_failures") >= 1).then_some(()));
        assert_eq!(count(&instance, "requests"), 0, "{tls}");
        is_down(&setup(nginx, &tls).start(), why);
    }
    for tls in ["verify = false\n", "verify = false\nserver_name = \"other.test\"\n"] {
        assert_eq!(says(&setup(&by_name, tls).start()).0, 200, "{tls}");
    }
}

#[test]
fn a_backend_that_asks_is_shown_a_certificate() {
    let pki = Pki::new();
    let (backend, client) = (pki.issue("backend", "IP:127.0.0.1"), pki.issue("edge", "DNS:edge.test"));
    let nginx = nginx(&backend, &format!("ssl_verify_client on; ssl_client_certificate {};", pki.ca().display()));
    let trusted = format!("ca = {:?}\n", pki.ca());
    let instance = setup(&nginx, &trusted).start();
    is_down(&instance, "status 400");
    let tls = format!("{trusted}chain = {:?}\nkey = {:?}\n", client.chain, client.key);
    let instance = setup(&nginx, &tls).start();
    assert_eq!(says(&instance), (200, " CN=edge,O=Example TLSv1.3".to_owned()));
    eventually("checks show it too", || (instance.backend("shop", "a")["health"] == "up").then_some(()));
}

#[test]
fn connections_are_used_again_and_bodies_pass_unchanged() {
    let pki = Pki::new();
    let nginx = nginx(&pki.issue("backend", "IP:127.0.0.1"), "");
    let content: Vec<u8> = (0..5usize << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    nginx.file("big", &content);
    let pool = format!("[pool.health]\ncheck = \"off\"\n[pool.tls]\nca = {:?}\n", pki.ca());
    let instance = Setup::shop(&pool, nginx.backends.clone()).global("workers = 1").start();
    let address = instance.listener("web");
    let mut connection = Connection::open(&address);
    for _ in 0..20 {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
    }
    eventually("it is counted", || (count(&instance, "requests") == 20).then_some(()));
    assert_eq!((count(&instance, "connects"), count(&instance, "reused")), (1, 19), "tickets that come are no answer");
    assert!(get(&address, "/files/big", &[]).body == content);
    assert_eq!(request(&address, "PUT", "/upload/big", &[], &content).status, 201);
    assert!(fs::read(nginx.folder.path("files").join("upload/big")).unwrap() == content);
}

#[test]
fn authorities_are_followed() {
    let (pki, next) = (Pki::new(), Pki::new());
    let nginx = nginx(&next.issue("backend", "IP:127.0.0.1"), "");
    let folder = Folder::new();
    let ca = folder.path("ca.pem");
    fs::copy(pki.ca(), &ca).unwrap();
    let instance = setup(&nginx, &format!("ca = {ca:?}\n")).start();
    is_down(&instance, "invalid peer certificate: ");
    fs::write(&ca, "").unwrap();
    eventually("the problem is told", || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        status["problems"].to_string().contains("pool `shop` can't load what its TLS needs").then_some(())
    });
    fs::copy(next.ca(), &ca).unwrap();
    eventually("it is trusted", || (says(&instance).0 == 200).then_some(()));
    eventually("and found up", || (instance.backend("shop", "a")["health"] == "up").then_some(()));
    let (_, status) = instance.api("GET", "/v1/status", None);
    assert_eq!(status["problems"], json!([]));
}

#[test]
fn settings_are_changed_over_rest_and_nothing_goes_in_clear_text_after_that() {
    let pki = Pki::new();
    let issued = pki.issue("backend", "IP:127.0.0.1");
    let nginx = nginx(&issued, "");
    let plain = Nginx::start(&["a"]);
    let pool = "[pool.health]\ncheck = \"off\"\n";
    let instance = Setup::shop(pool, plain.backends.clone()).global("workers = 1").start();
    let address = instance.listener("web");
    let mut connection = Connection::open(&address);
    assert_eq!(connection.request("GET", "/", &[], b"").text(), "a");
    let put = |tls: Value, address: &str| {
        let backend = json!([{ "name": "a", "address": address }]);
        instance.api(
            "PUT",
            "/v1/pools/shop",
            Some(json!({ "tls": tls, "health": { "check": "off" }, "backend": backend })),
        )
    };
    // The same address, of a server that does not speak TLS.
    let (status, answer) = put(json!({ "ca": pki.ca() }), &plain.backends[0].1);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["pool"]["tls"]["ca"], json!(pki.ca()));
    assert_eq!(connection.request("GET", "/", &[], b"").status, 503, "the connection that was kept is not used");
    let (status, _) = put(json!({ "ca": pki.ca() }), &nginx.backends[0].1);
    assert_eq!(status, 200);
    assert_eq!(says(&instance).0, 200);
    let (status, answer) = put(json!({ "ca": "/nowhere/ca.pem" }), &nginx.backends[0].1);
    assert_eq!((status, &answer["errors"][0]["pointer"]), (409, &json!("/tls/ca")), "{answer}");
    let (status, answer) = put(json!({ "verify": false, "ca": pki.ca(), "chain": issued.chain }), "127.0.0.1:1");
    let wrong: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!((status, wrong), (422, vec!["/tls/ca", "/tls/key"]), "{answer}");
    assert_eq!(says(&instance).0, 200, "what was refused changes nothing");
}

#[test]
fn check_tells_what_a_pool_can_not_load() {
    let pki = Pki::new();
    let (own, other) = (pki.issue("own", "DNS:a"), pki.issue("other", "DNS:b"));
    let text = format!(
        "[global]\nstate_dir = {:?}\nruntime_dir = {:?}\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n\
         [[pool]]\nname = \"shop\"\n[pool.tls]\nca = \"/nowhere/ca.pem\"\n\
         [[pool]]\nname = \"b\"\n[pool.tls]\nca = {:?}\nchain = {:?}\nkey = {:?}\n",
        pki.folder.path("state"),
        pki.folder.path("run"),
        pki.ca(),
        own.chain,
        other.key
    );
    let file = pki.folder.write("steadfast.toml", &text);
    let outcome = Outcome::of(support::steadfast(["check", "--config", file.to_str().unwrap()]));
    assert_eq!(outcome.code, Some(64));
    assert!(outcome.stderr.contains("pool[0].tls.ca: there is no file `/nowhere/ca.pem`; "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("pool[1].tls.key: can't be used with the certificate: "), "{}", outcome.stderr);
}
