//! `steadfast ctl top` in a real terminal: what it shows, what keys do, and how it leaves the terminal.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use support::{
    Instance, Outcome, Setup, Shop, eventually, http, send_signal, steadfast, terminal::Terminal, visitors::Visitors,
};

const CHECKED: &str = "[pool.health]\ninterval = \"200ms\"\nfall = 1\nrise = 1\n";

/// A pool of two backends that are up, and of one at which nobody listens.
struct House {
    instance: Instance,
    _shops: [Shop; 2],
}

impl House {
    #[track_caller]
    fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let shops = ["a", "b"].map(Shop::start);
        let up = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone()));
        let setup = Setup::shop(CHECKED, up.chain([("c".to_owned(), "127.0.0.1:9".to_owned())]));
        let instance = change(setup).start();
        let health = |name: &str| instance.backend("shop", name)["health"].clone();
        eventually("health is known and a data plane serves", || {
            let known = ["a", "b", "c"].map(health) == [json!("up"), json!("up"), json!("down")];
            (known && instance.api("GET", "/readyz", None).0 == 200).then_some(())
        });
        Self { instance, _shops: shops }
    }

    fn state(&self, name: &str) -> Value {
        self.instance.backend("shop", name)["admin_state"].clone()
    }
}

/// `ctl top` at these nodes, in a terminal of that size.
#[track_caller]
fn top(admins: &[String], size: (u16, u16), more: &str) -> Terminal {
    let terminal = Terminal::start(size, &[]);
    begin(&terminal, admins, more);
    terminal
}

#[track_caller]
fn begin(terminal: &Terminal, admins: &[String], more: &str) {
    let binary = env!("CARGO_BIN_EXE_steadfast");
    let admins = admins.join(",");
    let option = if admins.contains(',') { "--nodes" } else { "--admin" };
    terminal.types(&format!("clear; {binary} ctl {option} {admins} top {more}"));
    terminal.keys(&["Enter"]);
    terminal.shows("generation ");
}

/// The words of the row of this name.
fn row<'a>(screen: &'a str, name: &str) -> Vec<&'a str> {
    let rows = screen.lines().map(|line| line.trim_start_matches('>').split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|row| row.first() == Some(&name)).unwrap_or_default()
}

#[test]
fn pools_backends_rates_sessions_and_events_are_shown_as_rest_tells_them() {
    let house = House::start(|setup| setup);
    let terminal = top(&[house.instance.admin()], (120, 30), "");
    let visitors = Visitors::start(&house.instance.listener("web"), [Duration::from_millis(20); 4]);
    let screen = terminal.eventually("there are rates and sessions", |screen| {
        // UP and DOWN behind the name; rates stand where there were none before the second look.
        let (pool, backend) = (row(screen, "shop"), row(screen, "a"));
        let moves = |word: Option<&&str>| word.is_some_and(|word| word.parse::<f64>().is_ok_and(|rate| rate > 1.0));
        pool.get(..3) == Some(&["shop", "2", "1"])
            && backend.get(..3) == Some(&["a", "active", "up"])
            && moves(backend.get(6))
    });
    assert!(screen.starts_with("steadfast 0.1.0, up "), "{screen}");
    assert!(screen.contains("applied by 2 workers, membership from api"), "{screen}");
    assert!(screen.contains("! 1 of 3 backends of pool shop is down"), "{screen}");
    assert!(screen.contains("shop, last minute: kept 100 %, repinned 0 %"), "{screen}");
    assert_eq!(row(&screen, "c")[1..3], ["active", "down"], "{screen}");
    assert!(screen.lines().any(|line| line.contains("down") && line.contains("connection refused")), "{screen}");
    let sessions = |name: &str| house.instance.live_sessions(&[name]).to_string();
    terminal.eventually("sessions are those of REST", |screen| {
        ["a", "b"].iter().all(|name| row(screen, name).get(4).is_some_and(|word| **word == *sessions(name)))
    });
    assert!(visitors.end().wrong.is_empty());
    assert_eq!(house.instance.ctl(&["weight", "shop", "c", "3"]).code, Some(0));
    let event = "membership backend=c";
    terminal.eventually("the event is told", |screen| {
        screen.lines().any(|line| line.contains(event) && line.contains(" ago "))
    });
    terminal.keys(&["?"]);
    terminal.shows("maintenance: nothing at all");
}

#[test]
fn a_backend_is_drained_and_activated_by_keys_after_a_preview_and_a_yes() {
    let house = House::start(|setup| setup);
    let visitors = Visitors::start(&house.instance.listener("web"), [Duration::from_millis(50); 8]);
    eventually("its sessions are known", || (house.instance.live_sessions(&["a", "b"]) == 8).then_some(()));
    // Each worker has its own round.
    let live = house.instance.live_sessions(&["b"]);
    let sessions = format!("{live} session{}", if live == 1 { "" } else { "s" });
    let terminal = top(&[house.instance.admin()], (100, 30), "shop --interval 500ms");
    terminal.shows("> a ");
    terminal.keys(&["Down", "m"]);
    terminal.shows("Put b into maintenance? y/N");
    terminal.shows(&format!("moves {sessions}; loses the state of {sessions}"));
    terminal.keys(&["n"]);
    terminal.shows("nothing was changed");
    assert_eq!(house.state("b"), "active");

    terminal.keys(&["d", "Right", "Tab"]);
    terminal.types("10m");
    terminal.shows("deadline  10m_");
    terminal.keys(&["Enter"]);
    terminal.shows("Drain b (retire, deadline 10m)? y/N");
    assert_eq!(house.state("b"), "active", "nothing is done before the yes");
    terminal.keys(&["y"]);
    terminal.eventually("it is answered", |screen| {
        screen.contains("generation") && screen.contains("applied by 2 workers\n")
    });
    let drained = house.instance.backend("shop", "b");
    assert_eq!((&drained["admin_state"], &drained["drain_progress"]["mode"]), (&json!("draining"), &json!("retire")));
    assert!(drained["drain_progress"]["deadline"].is_u64());
    let screen = terminal.shows("drains (retire) for ");
    assert!(row(&screen, "b")[1] == "draining" && screen.contains(&format!("{live} of {sessions} left")), "{screen}");

    terminal.keys(&["a"]);
    terminal.shows("Activate b? y/N");
    terminal.keys(&["y"]);
    terminal.eventually("it is active", |screen| row(screen, "b").get(1) == Some(&"active"));
    assert_eq!(house.state("b"), "active");
    assert!(visitors.end().wrong.is_empty());
}

#[test]
fn what_somebody_else_changed_meanwhile_is_not_overwritten() {
    let house = House::start(|setup| setup);
    let terminal = top(&[house.instance.admin()], (100, 30), "");
    terminal.shows("> a ");
    terminal.keys(&["m"]);
    terminal.shows("Put a into maintenance? y/N");
    assert_eq!(house.instance.ctl(&["weight", "shop", "a", "5"]).code, Some(0));
    terminal.keys(&["y"]);
    terminal.shows("refused with 412");
    assert_eq!(house.state("a"), "active");
    terminal.keys(&["d", "Tab"]);
    terminal.types("soon");
    terminal.keys(&["Enter"]);
    terminal.shows("`soon` is not a duration");
    terminal.keys(&["Escape"]);
    terminal.shows("nothing was changed");
    assert_eq!(house.state("a"), "active");
}

#[test]
fn an_admin_process_that_hangs_or_dies_holds_up_no_keys_and_is_found_again() {
    let house = House::start(|setup| setup);
    let terminal = top(&[house.instance.admin()], (100, 30), "--interval 250ms");
    terminal.shows("> a ");
    let stopped = house.instance.signal("admin", Signal::STOP);
    let screen = terminal.shows("no answer since ");
    assert_eq!(row(&screen, "b")[1], "active", "the last figures stay: {screen}");
    terminal.keys(&["Down"]);
    terminal.shows("> b ");
    terminal.keys(&["d"]);
    terminal.shows("nothing can be changed now");
    send_signal(stopped, Signal::CONT);
    terminal.eventually("it is back", |screen| !screen.contains("no answer"));

    send_signal(stopped, Signal::KILL);
    house.instance.replaced("admin", stopped);
    let restarted = |screen: &str| {
        screen.lines().next().is_some_and(|line| line.contains(", up ")) && !screen.contains("no answer")
    };
    terminal.eventually("the next one is found", restarted);
    assert_eq!(house.instance.ctl(&["maintenance", "shop", "c"]).code, Some(0));
    terminal.eventually("what it says is shown", |screen| row(screen, "c").get(1) == Some(&"maintenance"));
    terminal.eventually("and its events", |screen| {
        screen.contains("admin-state backend=c") || screen.contains("backend=c")
    });
}

#[test]
fn it_fits_any_size_and_follows_a_change_of_it() {
    let house = House::start(|setup| setup);
    let terminal = top(&[house.instance.admin()], (80, 24), "");
    terminal.shows("> a ");
    terminal.resize((40, 10));
    let screen = terminal.eventually("it fits 40 by 10", |screen| {
        let lines: Vec<_> = screen.lines().collect();
        lines.len() == 10
            && lines[9].starts_with("q quit  ? help")
            && row(screen, "a").get(..3) == Some(&["a", "active", "up"])
    });
    assert!(screen.lines().all(|line| line.chars().count() <= 40), "{screen}");
    for size in [(1, 1), (200, 2), (3, 50), (100, 30)] {
        terminal.resize(size);
    }
    terminal.eventually("it fits 100 by 30", |screen| {
        screen.lines().count() == 30 && screen.lines().last().is_some_and(|line| line.contains("m maintenance"))
    });
    terminal.keys(&["q"]);
    eventually("it ends", || (!terminal.alternate_and_cursor().0).then_some(()));
}

#[test]
fn a_thousand_backends_scroll_and_are_found_by_what_they_are() {
    let backends = (0..1000).map(|number| (format!("app-{number}"), format!("127.0.1.{}:9", number % 250 + 1)));
    let instance = Setup::shop("[pool.health]\ncheck = \"off\"\n", backends).start();
    assert_eq!(instance.api("POST", "/v1/pools/shop/backends/app-500/drain", None).0, 200);
    let terminal = top(&[instance.admin()], (100, 30), "");
    terminal.shows("> app-0 ");
    terminal.keys(&["G"]);
    let screen = terminal.shows("> app-999 ");
    assert!(screen.contains("shop: 1,000 backends, "), "{screen}");
    terminal.keys(&["PageUp", "k"]);
    terminal.eventually("it is a page before", |screen| screen.contains("> app-9") && !screen.contains("> app-999"));
    terminal.keys(&["/"]);
    terminal.types("draining");
    terminal.keys(&["Enter"]);
    let screen = terminal.shows("> app-500 ");
    assert!(screen.contains("1 of 1,000 backends   /draining"), "{screen}");
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let house = House::start(|setup| setup);
    let admins = [house.instance.admin()];
    let terminal = Terminal::start((80, 24), &[]);
    let before = terminal.settings();
    let ends = [
        (End::Key("q"), "code 0"),
        (End::Key("C-c"), "code 0"),
        (End::Signal(Signal::TERM), "code 143"),
        (End::Signal(Signal::INT), "code 130"),
        (End::Signal(Signal::HUP), "code 129"),
    ];
    for (end, code) in ends {
        begin(&terminal, &admins, "");
        assert_eq!(terminal.alternate_and_cursor(), (true, false));
        match end {
            End::Key(key) => terminal.keys(&[key]),
            End::Signal(signal) => send_signal(terminal.child(), signal),
        }
        eventually("the screen and the cursor are the shell's", || {
            (terminal.alternate_and_cursor() == (false, true)).then_some(())
        });
        terminal.types("echo \"code $?\"");
        terminal.keys(&["Enter"]);
        let screen = terminal.shows(code);
        assert!(!screen.contains("membership from"), "it has drawn beside its screen: {screen}");
        assert_eq!(terminal.settings(), before, "{code}");
    }
}

enum End {
    Key(&'static str),
    Signal(Signal),
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let instance = Setup::shop("", [("a", "127.0.0.1:9")]).start();
    let piped = instance.ctl(&["top"]);
    assert_eq!((piped.code, piped.stdout.as_str()), (Some(1), ""), "{piped:?}");
    assert!(piped.stderr.contains("take `ctl status`, `ctl backends POOL`"), "{piped:?}");
    let json = instance.ctl(&["--json", "top"]);
    assert!(json.code == Some(1) && json.stderr.contains("take `ctl --json status`"), "{json:?}");
    for interval in ["100ms", "2m", "often"] {
        let wrong = Outcome::of(steadfast(["ctl", "top", "--interval", interval]));
        assert!(wrong.code == Some(2) && wrong.stderr.contains("--interval"), "{wrong:?}");
    }
    let terminal = Terminal::start((100, 24), &[]);
    terminal.types(&format!("{} ctl --admin {} top nowhere", env!("CARGO_BIN_EXE_steadfast"), instance.admin()));
    terminal.keys(&["Enter"]);
    terminal.shows("there is no pool nowhere");
    terminal.shows("> a ");
}

#[test]
fn where_the_file_decides_nothing_can_be_pressed_and_no_color_is_none() {
    let house = House::start(|setup| setup.membership("file"));
    let terminal = Terminal::start((100, 30), &[("NO_COLOR", "1")]);
    begin(&terminal, &[house.instance.admin()], "");
    terminal.shows("> a ");
    for key in ["d", "a", "m"] {
        terminal.keys(&[key]);
        terminal.shows("the configuration file decides");
        terminal.keys(&["k"]);
        terminal.eventually("the message is gone", |screen| !screen.contains("the configuration file decides"));
    }
    let colours = |screen: &str| {
        let sequences = screen.split("\u{1b}[").skip(1).map(|rest| rest.split('m').next().unwrap().to_owned());
        sequences
            .flat_map(|codes| codes.split(';').map(str::to_owned).collect::<Vec<_>>())
            .filter(|code| code.starts_with('3') && code != "39")
            .count()
    };
    assert_eq!(colours(&terminal.coloured_screen()), 0, "{:?}", terminal.coloured_screen());
    let other = top(&[house.instance.admin()], (100, 30), "");
    other.shows("> a ");
    assert!(colours(&other.coloured_screen()) > 0);
}

#[test]
fn many_nodes_are_one_screen_and_a_drain_goes_to_each() {
    let houses = [(); 2].map(|()| House::start(|setup| setup));
    for (house, visits) in houses.iter().zip([2, 3]) {
        (0..visits).for_each(|_| assert_eq!(http::get(&house.instance.listener("web"), "/", &[]).status, 200));
        eventually("its sessions are known", || (house.instance.live_sessions(&["a", "b"]) == visits).then_some(()));
    }
    let admins = houses.each_ref().map(|house| house.instance.admin());
    let terminal = top(&admins, (160, 40), "--interval 500ms");
    terminal.shows(", 2 of 2 nodes, ");
    terminal.eventually("sessions add up", |screen| row(screen, "shop").contains(&"5"));
    // The houses have other backends by the same names: that is pointed out.
    terminal.shows("a: address differs: ");
    terminal.keys(&["d", "Enter"]);
    terminal.shows("Drain a (persist, no deadline)? y/N");
    terminal.keys(&["y"]);
    eventually("both have it", || houses.iter().all(|house| house.state("a") == "draining").then_some(()));
    terminal.shows(&format!("{}: a: ", admins[1]));
    assert_eq!(houses[1].instance.ctl(&["activate", "shop", "a"]).code, Some(0));
    terminal.shows(&format!("a: admin state differs: draining at {}; active at {}", admins[0], admins[1]));
    houses[0].instance.signal("admin", Signal::STOP);
    terminal.shows(&format!("no answer from {} since ", admins[0]));
    terminal.eventually("the other's figures are shown", |screen| {
        screen.contains(", 1 of 2 nodes, ") && row(screen, "shop").contains(&"3")
    });
}
