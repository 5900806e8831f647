//! Sessions that the application begins and names, with a token of ours that goes along.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{collections::BTreeSet, io::Write};
use support::{
    Instance, Scripted, Setup,
    backend::read_head,
    eventually,
    http::{Connection, Response, get, request},
    peers::python,
};

/// An application that answers with its name and with what it was sent of its session. `/login` sets its cookie, `/logout`
/// deletes it, `/init` names a session in a header, and so does `/again`, by the name that came.
fn application(name: &'static str) -> (&'static str, String) {
    let backend = Scripted::start(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let field = |label: &str| head.lines().find_map(|line| line.strip_prefix(label)).unwrap_or("-");
            let (cookie, session) = (field("Cookie: "), field("Mcp-Session-Id: "));
            let extra = match path {
                "/login" => format!("Set-Cookie: sid={name}.1; Path=/; HttpOnly\r\n"),
                "/logout" => "Set-Cookie: sid=gone; expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
                "/init" => format!("Mcp-Session-Id: {name}.1\r\n"),
                "/again" => format!("mcp-session-id: {session}\r\n"),
                _ => String::new(),
            };
            let body = format!("{name} {cookie} {session}");
            let head = format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n", body.len());
            if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                return;
            }
        }
    });
    (name, backend.address().to_string())
}

fn shop(affinity: &str) -> Instance {
    let pool = format!("[pool.affinity]\n{affinity}\n[pool.health]\ncheck = \"off\"\n");
    Setup::shop(&pool, ["a", "b", "c"].map(application)).start()
}

const FOLLOW: &str = "mode = \"app-cookie\"\napp_cookie = { name = \"sid\", style = \"follow\" }";
const PREFIX: &str = "mode = \"app-cookie\"\napp_cookie = { name = \"sid\", style = \"prefix\" }";
const HEADER: &str = "mode = \"header\"\nheader = { name = \"Mcp-Session-Id\", style = \"follow\" }";

#[track_caller]
fn visit(address: &str, path: &str, cookie: &str) -> (String, Response) {
    let headers: &[_] = if cookie.is_empty() { &[] } else { &[("Cookie", cookie)] };
    let response = get(address, path, headers);
    assert_eq!(response.status, 200, "{}", response.text());
    (response.text()[..1].to_owned(), response)
}

/// Who answers without a session, several times.
fn spread(address: &str, cookie: &str) -> BTreeSet<String> {
    (0..12).map(|_| visit(address, "/", cookie).0).collect()
}

fn post(instance: &Instance, path: &str) {
    let (status, answer) = instance.api("POST", path, None);
    assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
}

fn health(instance: &Instance, backend: &str, health: &str) {
    let path = format!("/v1/pools/shop/backends/{backend}/health");
    assert_eq!(instance.api("PUT", &path, Some(json!({ "health": health }))).0, 200);
}

#[track_caller]
fn counted(instance: &Instance, name: &str, count: u64) {
    let line = format!("steadfast_pool_{name}_total{{pool=\"shop\"}} {count}");
    eventually(&line, || instance.api_text("GET", "/metrics").1.lines().any(|each| each == line).then_some(()));
}

#[test]
fn a_cookie_beside_the_application_cookie_comes_and_goes_with_it() {
    let instance = shop(FOLLOW);
    let address = instance.listener("web");
    assert_eq!(spread(&address, "").len(), 3, "without the application's cookie each request is balanced");
    assert_eq!(visit(&address, "/", "").1.header("Set-Cookie"), None, "and nothing is set");
    let (home, login) = visit(&address, "/login", "");
    let (app, own) = (login.cookie("sid").unwrap(), login.cookie("lb-affinity").unwrap());
    assert_eq!(app, format!("sid={home}.1"), "the application's cookie is as it was");
    assert_eq!(login.header("Cache-Control"), Some("private"));
    let both = format!("{own}; {app}");
    for _ in 0..6 {
        let (at, response) = visit(&address, "/", &both);
        assert_eq!((at, response.header("Set-Cookie")), (home.clone(), None));
        assert_eq!(response.text(), format!("{home} {app} -"), "the backend sees its own alone");
    }
    let answer = instance.explain(json!({ "pool": "shop", "cookie": both }));
    assert_eq!(answer["backend"], json!(home), "{answer}");
    assert_eq!(spread(&address, &own).len(), 3, "a token without the application's cookie counts as none");
    assert_eq!(spread(&address, &app).len(), 3);
    eventually("one session is live", || (instance.live_sessions(&["a", "b", "c"]) == 1).then_some(()));
    counted(&instance, "unpinned", 1);

    let away = visit(&address, "/logout", &both).1;
    let deleted: Vec<_> = away.all("Set-Cookie").filter(|line| line.starts_with("lb-affinity=")).collect();
    assert_eq!(deleted, ["lb-affinity=; Max-Age=0; Path=/; SameSite=Lax; HttpOnly"]);

    health(&instance, &home, "down");
    let (moved, response) = visit(&address, "/", &both);
    let fresh = response.cookie("lb-affinity").expect("a session that moves gets a new token");
    assert_ne!(moved, home);
    let (at, response) = visit(&address, "/", &format!("{app}; {fresh}"));
    assert_eq!((at, response.header("Set-Cookie")), (moved, None));
    eventually("the loss is counted", || (instance.backend("shop", &home)["sessions_lost"] == json!(1)).then_some(()));
}

#[test]
fn a_token_in_front_of_the_application_cookie_is_never_seen_behind_us() {
    let instance = shop(PREFIX);
    let address = instance.listener("web");
    assert_eq!(spread(&address, "").len(), 3);
    let (home, login) = visit(&address, "/login", "");
    let lines: Vec<_> = login.all("Set-Cookie").collect();
    let [line] = lines.as_slice() else { panic!("one cookie: {lines:?}") };
    assert!(line.ends_with(&format!("~{home}.1; Path=/; HttpOnly")), "{line}");
    assert_eq!(login.header("Cache-Control"), Some("private"));
    let cookie = login.cookie("sid").unwrap();
    for _ in 0..6 {
        let (at, response) = visit(&address, "/", &format!("x=1; {cookie}; y=2"));
        assert_eq!((at, response.header("Set-Cookie")), (home.clone(), None));
        assert_eq!(response.text(), format!("{home} x=1; sid={home}.1; y=2 -"));
    }
    let answer = instance.explain(json!({ "pool": "shop", "cookie": cookie }));
    assert_eq!(answer["backend"], json!(home), "{answer}");
    let bare = visit(&address, "/", "sid=abc").1.text();
    assert!(bare.ends_with(" sid=abc -"), "what has no token goes as it came: {bare}");
    let forged = forged(&cookie);
    assert!(visit(&address, "/", &forged).1.text().ends_with(&format!(" sid={home}.1 -")), "nor is one that is forged");
    counted(&instance, "token_bad_mac", 1);
    eventually("one session is live", || (instance.live_sessions(&["a", "b", "c"]) == 1).then_some(()));

    health(&instance, &home, "down");
    let away = visit(&address, "/", &cookie).0;
    assert_ne!(away, home);
    assert_eq!(visit(&address, "/", &cookie).0, away, "it goes along the ring");
    let again = visit(&address, "/login", &cookie).1.cookie("sid").unwrap();
    health(&instance, &home, "up");
    assert_eq!(visit(&address, "/", &cookie).0, home, "nothing was bound elsewhere");
    assert_eq!(visit(&address, "/", &again).0, away, "but where the application named it anew");
}

#[test]
fn a_real_client_keeps_its_session_in_a_cookie_jar() {
    for affinity in [FOLLOW, PREFIX] {
        let instance = shop(affinity);
        let program = "import sys, requests\n\
            url = sys.argv[1]\n\
            session = requests.Session()\n\
            home = session.get(url + 'login').text[0]\n\
            seen = {session.get(url).text for _ in range(20)}\n\
            session.get(url + 'logout')\n\
            free = {session.get(url).text[0] for _ in range(20)}\n\
            print(seen == {f'{home} sid={home}.1 -'}, len(free), len(session.cookies))\n";
        let outcome = python(program, &[&format!("http://{}/", instance.listener("web"))]);
        assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "True 3 0"), "{affinity}: {}", outcome.stderr);
    }
}

#[test]
fn two_nodes_know_each_others_sessions() {
    let backends = ["a", "b", "c"].map(application);
    let keys = support::Folder::new();
    let file = keys.write("keys", &format!("{}\n", "QUFB".repeat(10) + "QUE="));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let node = || {
        let pool = format!("[pool.affinity]\n{HEADER}\n[pool.health]\ncheck = \"off\"\n");
        Setup::shop(&pool, backends.clone()).global(&format!("workers = 2\nkeys_file = {file:?}\n")).start()
    };
    let nodes = [node(), node()];
    let addresses = nodes.each_ref().map(|node| node.listener("web"));
    for _ in 0..6 {
        let begun = call(&addresses[0], "/init", "");
        let session = begun.header("mcp-session-id").unwrap();
        let there = call(&addresses[1], "/", session);
        assert_eq!((there.status, &there.text()[..1]), (200, &begun.text()[..1]));
    }
}

/// With another character within the token.
fn forged(session: &str) -> String {
    let mut forged = session.to_owned();
    forged.replace_range(44..45, if &session[44..45] == "A" { "B" } else { "A" });
    forged
}

#[track_caller]
fn call(address: &str, path: &str, session: &str) -> Response {
    let headers: &[_] = if session.is_empty() { &[] } else { &[("Mcp-Session-Id", session)] };
    request(address, "POST", path, headers, b"")
}

#[test]
fn a_session_in_a_header_is_wrapped_for_the_client_alone() {
    let instance = shop(HEADER);
    let address = instance.listener("web");
    let freely: BTreeSet<_> = (0..12).map(|_| call(&address, "/", "").text()).collect();
    assert_eq!(freely.len(), 3, "without a session each request is balanced");
    let begun = call(&address, "/init", "");
    let (home, session) = (begun.text()[..1].to_owned(), begun.header("mcp-session-id").unwrap().to_owned());
    assert!(session.ends_with(&format!("~{home}.1")) && begun.header("Set-Cookie").is_none(), "{session}");
    for _ in 0..6 {
        let response = call(&address, "/", &session);
        assert_eq!((response.status, response.text()), (200, format!("{home} - {home}.1")));
        assert_eq!(response.header("mcp-session-id"), None);
    }
    let again = call(&address, "/again", &session);
    assert_eq!(again.header("mcp-session-id"), Some(session.as_str()), "the client sees one name for one session");
    let question = json!({ "pool": "shop", "headers": { "mcp-session-id": session } });
    assert_eq!(instance.explain(question.clone())["backend"], json!(home));
    eventually("one session is live", || (instance.live_sessions(&["a", "b", "c"]) == 1).then_some(()));
    post(&instance, &format!("/v1/pools/shop/backends/{home}/drain"));
    assert_eq!(call(&address, "/", &session).status, 200, "a drain lets it end");
    let others: BTreeSet<_> = (0..12).map(|_| call(&address, "/init", "").text()).collect();
    assert_eq!(others.len(), 2, "and nobody else begins there");
    post(&instance, &format!("/v1/pools/shop/backends/{home}/maintenance"));
    assert_eq!(call(&address, "/", &session).status, 404);
    let ended = instance.explain(question);
    assert_eq!((&ended["outcome"], &ended["backend"]), (&json!("ended"), &Value::Null), "{ended}");
    counted(&instance, "ended_maintenance", 1);
}

#[test]
fn a_session_whose_holder_is_gone_is_told_so_by_cause() {
    let instance = shop(&HEADER.replace(" }", ", gone_status = 410 }"));
    let address = instance.listener("web");
    let begun = call(&address, "/init", "");
    let (home, session) = (begun.text()[..1].to_owned(), begun.header("mcp-session-id").unwrap().to_owned());
    let backend = format!("/v1/pools/shop/backends/{home}");
    for (wrong, cause) in [("abc".to_owned(), "token_malformed"), (forged(&session), "token_bad_mac")] {
        assert_eq!(call(&address, "/", &wrong).status, 410, "{cause}");
    }
    counted(&instance, "token_malformed", 1);
    counted(&instance, "token_bad_mac", 1);
    counted(&instance, "ended_unreadable", 2);
    health(&instance, &home, "down");
    assert_eq!(call(&address, "/", &session).status, 410);
    counted(&instance, "ended_down", 1);
    health(&instance, &home, "up");
    assert_eq!(call(&address, "/", &session).status, 200, "it had not moved");
    let there = instance.backend("shop", &home)["address"].clone();
    assert_eq!(instance.api("DELETE", &backend, None).0, 200);
    assert_eq!(call(&address, "/", &session).status, 410);
    counted(&instance, "ended_removed", 1);
    assert_eq!(instance.api("PUT", &backend, Some(json!({ "address": there }))).0, 201);
    assert_eq!(call(&address, "/", &session).status, 410, "a namesake does not know it");
    counted(&instance, "ended_incarnation", 1);
    assert_eq!(call(&address, "/init", "").status, 200, "and whoever has none may begin");
}

#[test]
fn clients_that_drop_what_they_are_given_are_told() {
    for (affinity, begin) in [(FOLLOW, "/login"), (PREFIX, "/login"), (HEADER, "/init")] {
        let instance = shop(affinity);
        let mut client = Connection::open(&instance.listener("web"));
        client.request("GET", "/", &[], b"");
        let given = client.request("GET", begin, &[], b"");
        // It drops what it was given; by a header it may as well begin another session.
        client.request("GET", "/", &[], b"");
        // Whoever has logged out has nothing to return.
        if begin == "/login" {
            let cookies: Vec<_> = given.all("Set-Cookie").map(|line| line.split(';').next().unwrap()).collect();
            client.request("GET", "/logout", &[("Cookie", &cookies.join("; "))], b"");
            client.request("GET", "/", &[], b"");
        }
        let (unmarked, ignored) = if begin == "/login" { (4, 1) } else { (3, 0) };
        eventually("the routes are told", || {
            let (_, report) = instance.api("GET", "/v1/pools/shop/stickiness", None);
            let route = &report["routes"][0];
            (route["unmarked"] == unmarked).then(|| assert_eq!(route["ignored"], ignored, "{affinity}: {route}"))
        });
    }
}
