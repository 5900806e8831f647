//! The dashboard, in a real Chromium: what it shows, what it does, and what it does not do without being told twice. What
//! happens in the browser is in `support/dashboard/cases.py`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use support::{
    Instance, Outcome, PATIENCE, Scripted, Setup, Shop, backend::read_head, eventually, http::request,
    peers::python_within,
};

const CASES: &str = concat!(include_str!("support/dashboard/page.py"), include_str!("support/dashboard/cases.py"));
const CHECKED: &str = "[pool.health]\ninterval = \"200ms\"\nfall = 1\nrise = 1\n";

/// Runs a case of `cases.py` at this instance.
#[track_caller]
fn case(name: &str, instance: &Instance, more: Value) {
    let mut given = json!({ "admin": instance.admin() });
    given.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    // A browser has to start, and some cases wait for what takes seconds by itself.
    let Outcome { code, stdout, stderr } = python_within(4 * PATIENCE, CASES, &[name, &given.to_string()]);
    assert_eq!(code, Some(0), "{name}\n{stdout}\n{stderr}");
    print!("{stdout}");
}

/// A pool of two backends that are up, and of one at which nobody listens; six sessions have begun.
struct House {
    instance: Instance,
    spare: Shop,
    _shops: [Shop; 2],
}

impl House {
    #[track_caller]
    fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let shops = ["a", "b"].map(Shop::start);
        let up = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone()));
        let setup = Setup::shop(CHECKED, up.chain([("c".to_owned(), "127.0.0.1:9".to_owned())]));
        let instance = change(setup).start();
        Self { instance, spare: Shop::start("d"), _shops: shops }
    }

    /// The same once its health and its sessions are known, where no token is needed to see that.
    #[track_caller]
    fn known(change: impl FnOnce(Setup) -> Setup) -> Self {
        let house = Self::start(change);
        let health = |name: &str| house.instance.backend("shop", name)["health"].clone();
        eventually("health is known", || {
            (["a", "b", "c"].map(health) == [json!("up"), json!("up"), json!("down")]).then_some(())
        });
        house.visit();
        eventually("six sessions are live", || (house.instance.live_sessions(&["a", "b"]) == 6).then_some(()));
        house
    }

    fn visit(&self) {
        for user in 0..6 {
            let path = format!("/login?user={user}");
            assert_eq!(request(&self.instance.listener("web"), "POST", &path, &[], b"").status, 200);
        }
    }

    #[track_caller]
    fn case(&self, name: &str) {
        case(name, &self.instance, json!({ "spare": self.spare.address }));
    }
}

#[test]
fn pools_backends_health_sessions_events_and_workers_are_shown_and_nobody_else_is_asked() {
    House::known(|setup| setup).case("look");
}

#[test]
fn a_drain_is_previewed_and_confirmed_and_does_nothing_when_cancelled() {
    House::known(|setup| setup).case("drain");
}

#[test]
fn backends_are_added_weighed_maintained_activated_and_removed_and_nobody_is_overwritten() {
    House::known(|setup| setup).case("change");
}

#[test]
fn a_release_is_begun_shown_with_both_cohorts_and_ended() {
    House::known(|setup| setup).case("ramp");
}

#[test]
fn a_rebalance_is_begun_watched_and_ended() {
    let house = House::known(|setup| setup);
    // All sessions are at `a` and `b`; `d` has none of its share.
    let body = json!({ "address": house.spare.address });
    assert_eq!(house.instance.api("PUT", "/v1/pools/shop/backends/d", Some(body)).0, 201);
    house.case("rebalance");
}

#[test]
fn a_token_is_asked_for_and_a_wrong_one_is_told() {
    let token = "0123456789abcdef0123456789abcdef";
    let house = House::start(|setup| {
        let file = setup.folder().write("token", token);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        setup.admin(&format!("listen = \"127.0.0.1:0\"\ntoken_file = {file:?}\n"))
    });
    case("token", &house.instance, json!({ "token": token }));
}

#[test]
fn where_the_file_decides_that_is_said_and_nothing_can_be_pressed() {
    House::known(|setup| setup.membership("file")).case("file");
}

#[test]
fn an_admin_process_that_is_killed_is_missed_and_found_again() {
    let house = House::known(|setup| setup);
    let more = json!({ "supervisor": house.instance.process.pid(), "process": house.instance.pid("admin") });
    case("restarted", &house.instance, more);
}

#[test]
fn without_a_data_plane_nothing_is_known_and_nothing_is_made_up() {
    let house = House::known(|setup| setup);
    let more = json!({ "supervisor": house.instance.process.pid(), "process": house.instance.pid("dataplane") });
    case("alone", &house.instance, more);
}

#[test]
fn a_unix_socket_is_carried_to_the_browser() {
    let house = House::start(|setup| {
        let path = setup.folder().path("admin.sock");
        setup.admin(&format!("listen = \"unix:{}\"\n", path.display()))
    });
    case("forwarded", &house.instance, json!({}));
}

#[test]
fn a_thousand_backends_are_a_page_at_a_time() {
    let backends = (0..1000).map(|number| (format!("app-{number:04}"), format!("127.0.1.{}:9", number % 250 + 1)));
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", backends).start();
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/app-0500/drain", None).0, 200);
    case("many", &instance, json!({}));
}

#[test]
fn it_fits_a_narrow_screen() {
    House::known(|setup| setup).case("narrow");
}

#[test]
fn keys_alone_drain_a_backend() {
    House::known(|setup| setup).case("keys");
}

#[test]
fn it_can_be_read_by_those_who_do_not_see_it() {
    let house = House::known(|setup| setup);
    let drain = json!({ "deadline": "30m" });
    assert_eq!(house.instance.api("POST", "/v1/pools/shop/backends/a/drain", Some(drain)).0, 200);
    assert_eq!(house.instance.api("PUT", "/v1/pools/shop/release", Some(json!({ "steps": [25, 50, 100] }))).0, 201);
    house.case("accessible");
}

#[test]
fn what_backends_say_is_shown_as_text() {
    let restarted = Arc::new(AtomicBool::new(false));
    let is_new = Arc::clone(&restarted);
    let backend = Scripted::start(move |mut stream| {
        while read_head(&mut stream).is_some() {
            let name = match is_new.load(Ordering::Relaxed) {
                false => "<script>alert(2)</script>",
                true => "<img src=x onerror=alert(1)>",
            };
            let answer = format!("HTTP/1.1 200 OK\r\nX-Instance: {name}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let pool = format!("{CHECKED}check = \"http\"\ninstance_header = \"X-Instance\"\n");
    let instance = Setup::shop(&pool, [("a", backend.address())]).start();
    let says = |part: &str| {
        eventually(&format!("its instance is {part}"), || {
            instance.backend("shop", "a")["instance"].as_str().filter(|name| name.contains(part)).map(|_| ())
        });
    };
    says("script");
    restarted.store(true, Ordering::Relaxed);
    says("img");
    case("hostile", &instance, json!({}));
}

#[test]
#[ignore = "makes the pictures of README.md anew"]
fn pictures() {
    let shops: Vec<_> = (1..=6).map(|number| Shop::start(&format!("cart-{number}"))).collect();
    let up = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone()));
    let backends = up.chain([("cart-7".to_owned(), "127.0.0.1:9".to_owned())]);
    let instance = Setup::shop(&format!("affinity.cookie.idle_timeout = \"1m\"\n{CHECKED}"), backends).start();
    let into = concat!(env!("CARGO_MANIFEST_DIR"), "/admin/src/dashboard/pictures");
    std::fs::create_dir_all(into).unwrap();
    case("pictures", &instance, json!({ "web": instance.listener("web"), "into": into }));
}
