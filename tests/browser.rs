//! Chromium: a page that fetches, listens to events and opens WebSockets, all over HTTP/2 and TLS.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::{
    Folder, Instance, PATIENCE, Running, Setup, eventually, peers::start_python, pki::Pki, websockets::Server, within,
};

/// A backend that serves the page, and its address.
struct Site {
    process: Running,
    address: String,
}

impl Site {
    fn start(name: &str) -> Self {
        let process = start_python(include_str!("support/site.py"), &[name]);
        let port = eventually("the site says its port", || {
            process.stdout().lines().next().filter(|_| process.stdout().contains('\n')).map(str::to_owned)
        });
        Self { process, address: format!("127.0.0.1:{port}") }
    }

    /// What a browser told it.
    fn told(&self) -> Option<Value> {
        self.process.stdout().lines().nth(1).and_then(|line| serde_json::from_str(line).ok())
    }
}

fn start(listener: &str, sites: &[Site], chats: &[Server]) -> Instance {
    let backends = |addresses: &[&String]| -> String {
        let each = addresses.iter().zip(["a", "b", "c"]);
        each.map(|(address, name)| format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n")).collect()
    };
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n{listener}\n\
         [[listener.route]]\npath = \"/name\"\npool = \"chat\"\n\
         [[pool]]\nname = \"shop\"\n{}[[pool]]\nname = \"chat\"\naffinity.cookie.name = \"chat\"\nhealth.check = \"off\"\n{}",
        backends(&sites.iter().map(|site| &site.address).collect::<Vec<_>>()),
        backends(&chats.iter().map(|chat| &chat.address).collect::<Vec<_>>()),
    );
    Setup::new(&rest).start()
}

#[test]
fn a_page_of_a_browser_finds_its_session_in_all_that_it_asks() {
    let pki = Pki::new();
    let issued = pki.issue("shop", "DNS:shop.test");
    let (sites, chats) = (["a", "b", "c"].map(Site::start), ["a", "b", "c"].map(Server::start));
    let listener = format!("tls = {{ certificate = [{}] }}", issued.toml());
    let instance = start(&listener, &sites, &chats);
    let profile = Folder::new();
    let mut chromium = Command::new("chromium");
    // The certificate's authority is the test's own; no browser knows it.
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--no-first-run"]);
    chromium.arg(format!("--user-data-dir={}", profile.path("").display()));
    chromium.arg(format!("--host-resolver-rules=MAP shop.test 127.0.0.1:{}", instance.port("web")));
    chromium.args(["--remote-debugging-port=0", "https://shop.test/"]);
    let browser = Running::start(chromium);
    let told = within(3 * PATIENCE, "the page tells what it found", || sites.iter().find_map(Site::told));
    drop(browser);

    assert_eq!(told["error"], json!(null), "{told}");
    let home = &told["texts"][0];
    assert_eq!(told["texts"], json!(vec![home; 30]), "{told}");
    let home = home.as_str().unwrap();
    let events: Vec<_> = (0..3).map(|count| format!("{count} of {home}")).collect();
    assert_eq!(told["events"], json!(events), "{told}");
    let chat = &told["chats"][0][0];
    assert_eq!(told["chats"], json!(vec![json!([chat, "hello", 4000]); 5]), "{told}");
    assert_eq!((&told["large"], &told["protocols"]), (&json!("3000000"), &json!(["h2"])), "{told}");
    eventually("five WebSockets were open at one backend", || {
        (instance.backend("chat", chat.as_str().unwrap())["counts"]["tunnels_opened"] == 5).then_some(())
    });
    let dataplane = |name: &str| instance.metric(&format!("steadfast_dataplane_{name}_total"));
    // The page and what it asked for; browsers ask for more by themselves.
    eventually("every request was a stream, those for WebSockets too", || {
        let all = dataplane("requests");
        (all >= 40 && dataplane("http2_streams") == all).then_some(())
    });
}
