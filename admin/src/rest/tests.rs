use crate::testing::{Answer, Folder, Rig, pool};
use axum::{body::Body, http::Request};
use control::{
    Path, Problem,
    spec::{Affinity, Mode, Route},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const A: &str = "/v1/pools/shop/backends/a";

/// An admin process with pools `shop` (backends `a`, `b`; a listener leads to it) and `spare` (empty).
struct Bench {
    rig: Rig,
    folder: Folder,
}

impl Bench {
    fn new() -> Self {
        let folder = Folder::new();
        let mut config = folder.config(&[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]);
        config.pools.push(pool("spare", &[]));
        Self { rig: Rig::start(config), folder }
    }

    async fn call(&self, call: &str, body: &str) -> Answer {
        self.rig.call(call, body).await
    }

    /// The problem that a call must end in, checked for its form.
    async fn refused(&self, call: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let before = self.rig.state.view().snapshot;
        let answer = self.rig.send(call, headers, body).await;
        let problem = &answer.body;
        assert!(answer.status >= 400, "{call} {body}: {} {}", answer.status, answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{call}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:steadfast:problem:"), "{problem}");
        assert_eq!(problem["status"], answer.status, "{problem}");
        for part in ["title", "detail"] {
            assert!(!problem[part].as_str().unwrap().is_empty(), "{problem}");
        }
        assert_eq!(self.rig.state.view().snapshot, before, "{call}: what is refused changes nothing");
        (answer.status, answer.body)
    }
}

fn a(path: &str) -> String {
    format!("{A}{path}")
}

#[tokio::test]
async fn pools_are_listed_read_made_set_and_removed() {
    let bench = Bench::new();
    let list = bench.rig.done("GET /v1/pools", "").await;
    assert_eq!(list.as_array().unwrap().iter().map(|pool| &pool["name"]).collect::<Vec<_>>(), ["shop", "spare"]);
    let shop = bench.rig.done("GET /v1/pools/shop", "").await;
    assert_eq!(shop, list[0]);
    assert_eq!((&shop["balance"], &shop["affinity"]["cookie"]["name"]), (&json!("round-robin"), &json!("lb-affinity")));
    assert_eq!((&shop["health"]["check"], &shop["timeouts"]["connect"]), (&json!("off"), &json!("3s")));
    assert_eq!(shop["backends"].as_array().unwrap().len(), 2);

    let body = r#"{"balance":"ring","backend":[{"name":"x","address":"10.0.0.8:80","weight":4}]}"#;
    let made = bench.call("PUT /v1/pools/new", body).await;
    assert_eq!((made.status, &made.body["pool"]["balance"]), (201, &json!("ring")));
    assert_eq!(made.body["pool"]["backends"][0]["weight"], 4);
    assert_eq!(made.body["generation"], bench.rig.generation());
    assert_eq!(made.body["applied"], false, "there is no data plane");
    let again = bench.call("PUT /v1/pools/new", body).await;
    assert_eq!((again.status, &again.body["generation"]), (200, &made.body["generation"]), "nothing changed");

    // Members stay unless the body says which there are; those that stay keep what is commanded of them.
    bench.rig.done("POST /v1/pools/new/backends/x/maintenance", "").await;
    let settings = bench.rig.done("PUT /v1/pools/new", r#"{"name":"new","balance":"p2c"}"#).await;
    assert_eq!(settings["pool"]["backends"][0]["name"], "x");
    let body = r#"{"backend":[{"name":"x","address":"10.0.0.9:80"},{"name":"y","address":"10.0.0.9:81"}]}"#;
    let members = bench.rig.done("PUT /v1/pools/new", body).await;
    let backends = &members["pool"]["backends"];
    assert_eq!((&backends[0]["admin_state"], &backends[1]["admin_state"]), (&json!("maintenance"), &json!("active")));
    assert_ne!(backends[0]["incarnation"], backends[1]["incarnation"]);
    let none = bench.rig.done("PUT /v1/pools/new", r#"{"backend":[]}"#).await;
    assert_eq!(none["pool"]["backends"], json!([]));

    bench.rig.done("DELETE /v1/pools/new", "").await;
    assert_eq!(bench.refused("GET /v1/pools/new", &[], "").await.0, 404);
    let (status, problem) = bench.refused("DELETE /v1/pools/shop", &[], "").await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("`web`"), "{problem}");
}

#[tokio::test]
async fn backends_are_listed_read_put_patched_and_removed() {
    let bench = Bench::new();
    let list = bench.rig.done("GET /v1/pools/shop/backends", "").await;
    let backend = bench.rig.done(&format!("GET {A}"), "").await;
    assert_eq!(list[0], backend);
    let expected = json!({
        "name": "a", "address": "10.0.0.1:80", "resolved": null, "found_by": null,
        "lookup_failing": null, "weight": 1, "backup": false, "admin_state": "active",
        "health": "unknown", "health_reason": null, "incarnation": 1, "instance": null, "live_sessions": null, "requests_in_flight": 0,
        "tunnels": 0, "requests_queued": 0,
        "requests": 0, "sessions_lost": 0, "errors": 0, "warming": null, "drain_progress": null, "counts": backend["counts"],
    });
    assert_eq!(backend, expected);
    assert_eq!(backend["counts"]["responses_5xx"], 0, "every counter is there");

    let made = bench.call("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    assert_eq!((made.status, &made.body["backend"]["weight"]), (201, &json!(1)));
    let put = bench.call("PUT /v1/pools/shop/backends/c", r#"{"name":"c","address":"[fd00::3]:80","weight":7}"#).await;
    assert_eq!((put.status, &put.body["backend"]["incarnation"]), (200, &made.body["backend"]["incarnation"]));
    for (patch, address, weight) in [
        (r#"{"weight":9}"#, "[fd00::3]:80", 9),
        (r#"{"address":"10.0.0.4:80"}"#, "10.0.0.4:80", 9),
        (r#"{"weight":null}"#, "10.0.0.4:80", 1),
        ("{}", "10.0.0.4:80", 1),
        (r#"{"weight":0,"address":"10.0.0.5:80"}"#, "10.0.0.5:80", 0),
    ] {
        let backend = &bench.rig.done("PATCH /v1/pools/shop/backends/c", patch).await["backend"];
        assert_eq!((&backend["address"], &backend["weight"]), (&json!(address), &json!(weight)), "{patch}");
    }
    let merge = [("content-type", "application/merge-patch+json; charset=utf-8")];
    assert_eq!(bench.rig.send(&format!("PATCH {A}"), &merge, r#"{"weight":2}"#).await.status, 200);
    bench.rig.done("DELETE /v1/pools/shop/backends/c", "").await;
    let (status, problem) = bench.refused("GET /v1/pools/shop/backends/c", &[], "").await;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (404, Some("there is no backend `c` in pool `shop`; the backends are `a`, `b`"))
    );
    let (status, problem) = bench.refused("GET /v1/pools/no/backends", &[], "").await;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (404, Some("there is no pool `no`; the pools are `shop`, `spare`"))
    );
}

#[tokio::test]
async fn admin_states_are_commanded_and_repeating_changes_nothing() {
    let bench = Bench::new();
    let drained = bench.rig.done(&format!("POST {}", a("/drain")), r#"{"mode":"persist","deadline":"30m"}"#).await;
    let progress = &drained["backend"]["drain_progress"];
    assert_eq!((&drained["backend"]["admin_state"], &progress["mode"]), (&json!("draining"), &json!("persist")));
    assert_eq!(progress["deadline"].as_u64().unwrap() - progress["since"].as_u64().unwrap(), 1_800_000);
    let again = bench.rig.done(&format!("POST {}", a("/drain")), "").await;
    assert_eq!((&again["generation"], &again["backend"]["drain_progress"]), (&drained["generation"], progress));
    let later = bench.rig.done(&format!("POST {}", a("/drain")), r#"{"deadline":"2h"}"#).await;
    assert_eq!(later["backend"]["drain_progress"]["since"], progress["since"], "it is the same drain");
    assert_ne!(later["backend"]["drain_progress"]["deadline"], progress["deadline"]);
    for (command, state) in
        [("/maintenance", "maintenance"), ("/activate", "active"), ("/drain", "draining"), ("/activate", "active")]
    {
        let first = bench.rig.done(&format!("POST {}", a(command)), "").await;
        assert_eq!(first["backend"]["admin_state"], state);
        assert_eq!(first["backend"]["drain_progress"].is_null(), state != "draining");
        let again = bench.rig.done(&format!("POST {}", a(command)), "").await;
        assert_eq!(first["generation"], again["generation"], "{command} is idempotent");
    }
    for (health, shown) in [("down", "down"), ("up", "up"), ("auto", "unknown")] {
        let answer = bench.rig.done(&format!("PUT {}", a("/health")), &json!({ "health": health }).to_string()).await;
        assert_eq!(answer["backend"]["health"], shown);
        assert_eq!(answer["generation"], bench.rig.generation());
        let again = bench.rig.done(&format!("PUT {}", a("/health")), &json!({ "health": health }).to_string()).await;
        assert_eq!(again["generation"], answer["generation"]);
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_would_be_right() {
    let bench = Bench::new();
    let drain = &a("/drain");
    let health = &a("/health");
    let put = |path: &str| format!("PUT {path}");
    let post = |path: &str| format!("POST {path}");
    let field = |pointer: &'static str| ("pointer", pointer);
    let parameter = |name: &'static str| ("parameter", name);
    let weight = r#"{"address":"10.0.0.1:80","weight":1001}"#;
    for (call, body, at, right) in [
        (put(A), "{}", field("/address"), "host:port"),
        (put(A), r#"{"address":"10.0.0.256:80"}"#, field("/address"), "host:port"),
        (put(A), r#"{"address":80}"#, field("/address"), "a string"),
        (put(A), weight, field("/weight"), "write 0 to 1000"),
        (put(A), r#"{"address":"10.0.0.1:80","weight":-1}"#, field("/weight"), "u32"),
        (put(A), r#"{"address":"10.0.0.1:80","wieght":1}"#, field("/wieght"), "`weight`"),
        (put(A), r#"{"name":"b","address":"10.0.0.1:80"}"#, field("/name"), "leave it out"),
        (put(A), r#"{"weight":1,"weight":2}"#, field(""), "duplicate field `weight`"),
        (post(drain), r#"{"deadline":null}"#, field("/deadline"), "a duration"),
        (put(A), r#"["a","10.0.0.1:80",1]"#, field(""), "an object"),
        (put("/v1/pools/new"), r#"{"timeouts":["1s"]}"#, field("/timeouts"), "an object"),
        (put("/v1/pools/new"), r#"{"backend":[["x","10.0.0.1:80"]]}"#, field("/backend/0"), "an object"),
        (put("/v1/pools/shop/backends/a%20b"), r#"{"address":"10.0.0.1:80"}"#, parameter("name"), "letters, digits"),
        (put("/v1/pools/a%2Fb"), "{}", parameter("pool"), "letters, digits"),
        (put("/v1/pools/new"), r#"{"timeouts":{"connect":"fast"}}"#, field("/timeouts/connect"), "250ms"),
        (put("/v1/pools/new"), r#"{"timeouts":{"connect":"0s"}}"#, field("/timeouts/connect"), "above zero"),
        (put("/v1/pools/new"), r#"{"balance":"best"}"#, field("/balance"), "`round-robin`"),
        (put("/v1/pools/new"), r#"{"backends":[]}"#, field("/backends"), "`backend`"),
        (put("/v1/pools/new"), r#"{"health":{"expect":"999"}}"#, field("/health/expect"), "200-399"),
        (put("/v1/pools/new"), r#"{"backend":[{"name":"x"}]}"#, field("/backend/0/address"), "host:port"),
        (
            put("/v1/pools/new"),
            r#"{"backend":[{"name":"x","address":"a:1","host":1}]}"#,
            field("/backend/0/host"),
            "`address`",
        ),
        (format!("PATCH {A}"), r#"{"address":null}"#, field("/address"), "leave it out"),
        (format!("PATCH {A}"), r#"{"weight":1001}"#, field("/weight"), "write 0 to 1000"),
        (format!("PATCH {A}"), r#"{"health":"up"}"#, field("/health"), "`address`"),
        (post(drain), r#"{"mode":"flee"}"#, field("/mode"), "`persist`"),
        (post(drain), r#"{"mode":"migrate"}"#, field("/deadline"), "by when"),
        (post(drain), r#"{"mode":"migrate","deadline":"1m","share":1.5}"#, field("/share"), "0.0 to 1.0"),
        (post(drain), r#"{"mode":"retire","share":0.5,"deadline":"1m"}"#, field("/share"), "migrate"),
        (post(drain), r#"{"share":1}"#, field("/share"), "migrate"),
        (post(drain), r#"{"then":"flee"}"#, field("/then"), "`leave`"),
        (post(drain), r#"{"deadline":"soon"}"#, field("/deadline"), "250ms"),
        (post(drain), r#"{"deadline":"0s"}"#, field("/deadline"), "/maintenance"),
        (post(drain), r#"{"deadline":"400d"}"#, field("/deadline"), "365d"),
        (post(&a("/drain?wait=full")), "", parameter("query"), "`empty`"),
        (post(&a("/drain?timeout=1")), "", parameter("query"), "250ms"),
        (post(&a("/drain?timeout=2h&wait=empty")), "", parameter("timeout"), "1h"),
        (post(&a("/drain?wiat=empty")), "", parameter("query"), "`wait`"),
        (post(&a("/activate")), r#"{"force":true}"#, field("/force"), "there are no fields"),
        (put(health), r#"{"health":"dead"}"#, field("/health"), "`auto`"),
        (post("/v1/keys/rotate"), r#"{"keep":0}"#, field("/keep"), "1 to 16"),
        (post("/v1/keys/rotate"), r#"{"keep":17}"#, field("/keep"), "1 to 16"),
        (post("/v1/reload"), r#"{"force":true}"#, field("/force"), "there are no fields"),
        (post("/v1/explain"), r#"{"pool":"shop","host":"a"}"#, field("/pool"), "leave the pool out"),
        (post("/v1/explain"), r#"{"path":"cart"}"#, field("/path"), "`/`"),
        (post("/v1/explain"), r#"{"client":"me"}"#, field("/client"), "IP address"),
    ] {
        let (status, problem) = bench.refused(&call, &[], body).await;
        assert_eq!(status, 422, "{call} {body}: {problem}");
        let error = &problem["errors"][0];
        assert_eq!(error[at.0], at.1, "{call} {body}: {problem}");
        let said = format!("{} {}", error["detail"], error["right"]);
        assert!(said.contains(right), "{call} {body}: {problem}");
    }
    let several = r#"{"timeouts":{"connect":"0s","idle":"0s"},"retry":{"attempts":99}}"#;
    let (_, problem) = bench.refused("PUT /v1/pools/new", &[], several).await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3, "all at once: {problem}");
}

#[tokio::test]
async fn requests_of_the_wrong_form_are_refused_by_their_status() {
    let bench = Bench::new();
    let long = format!(r#"{{"address":"{}"}}"#, "a".repeat(2 << 20));
    let text = [("content-type", "text/plain")];
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (call, headers, body, expected, said) in [
        (format!("PUT {A}"), &[][..], r#"{"address""#, 400, "line 1, column 10"),
        (format!("PUT {A}"), &[], r#"{"address":"10.0.0.1:80"} x"#, 400, "column 27"),
        (format!("PUT {A}"), &[], "", 400, "JSON"),
        (format!("PUT {A}"), &text[..], r#"{"address":"10.0.0.1:80"}"#, 415, "application/json"),
        (format!("POST {}", a("/drain")), &form[..], "mode=persist", 415, "application/json"),
        (format!("PUT {A}"), &[], long.as_str(), 413, "1048576"),
        (
            "PUT /v1/pools/new".to_owned(),
            &[],
            r#"{"backend":[{"name":"x","address":"a:1"},{"name":"x","address":"b:1"}]}"#,
            409,
            "`x` is there twice",
        ),
        ("GET /v1/pool".to_owned(), &[], "", 404, "/openapi.json"),
        ("GET /v1/pools/%ff".to_owned(), &[], "", 400, "UTF-8"),
        (format!("PUT {A}"), &[("if-match", "abc")], r#"{"address":"10.0.0.1:80"}"#, 400, "quotes"),
        ("GET /v1/events".to_owned(), &[("last-event-id", "x")], "", 422, "Last-Event-ID"),
        ("GET /v1/pools".to_owned(), &[("host", "evil.example.com")], "", 400, "Host"),
    ] {
        let (status, problem) = bench.refused(&call, headers, body).await;
        assert_eq!(status, expected, "{call}: {problem}");
        assert!(problem.to_string().contains(said), "{call}: {problem}");
    }
    for (call, allow) in [
        ("POST /v1/pools", "GET,HEAD"),
        ("PATCH /v1/pools/shop", "GET,HEAD,PUT,DELETE"),
        ("GET /v1/reload", "POST"),
        ("POST /healthz", "GET,HEAD"),
        ("DELETE /metrics", "GET,HEAD"),
        ("POST /openapi.json", "GET,HEAD"),
    ] {
        let answer = bench.call(call, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{call}");
        assert_eq!(answer.body["status"], 405, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let bench = Bench::new();
    let begins = futures_util::stream::once(async { Ok::<_, std::io::Error>("{".as_bytes()) });
    let body = Body::from_stream(begins.chain(futures_util::stream::pending()));
    let request = Request::put(A).header("host", "localhost").header("content-type", "application/json");
    let answer = bench.rig.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 408);
}

#[tokio::test]
async fn writes_hold_to_what_the_client_saw() {
    let bench = Bench::new();
    let tag_of = async |path: &str| bench.call(&format!("GET {path}"), "").await.header("etag").to_owned();
    let (pool, backend) = (tag_of("/v1/pools/shop").await, tag_of(A).await);
    assert!(backend.starts_with('"') && backend.len() == 18, "{backend}");
    // Live figures are no part of what a tag stands for.
    bench.rig.done(&format!("PUT {}", a("/health")), r#"{"health":"down"}"#).await;
    assert_eq!((tag_of("/v1/pools/shop").await, tag_of(A).await), (pool.clone(), backend.clone()));

    let spare = tag_of("/v1/pools/spare").await;
    let body = r#"{"address":"10.0.0.1:80","weight":5}"#;
    let stale = "\"0123456789abcdef\"";
    for (call, body) in [
        (format!("PUT {A}"), body),
        (format!("PATCH {A}"), r#"{"weight":5}"#),
        (format!("DELETE {A}"), ""),
        (format!("POST {}", a("/drain")), ""),
        (format!("POST {}", a("/activate")), ""),
        (format!("POST {}", a("/maintenance")), ""),
        (format!("PUT {}", a("/health")), r#"{"health":"up"}"#),
        ("PUT /v1/pools/shop".to_owned(), "{}"),
        ("DELETE /v1/pools/spare".to_owned(), ""),
    ] {
        let (status, problem) = bench.refused(&call, &[("if-match", stale)], body).await;
        assert_eq!(status, 412, "{call}: {problem}");
    }
    let (_, problem) = bench.refused(&format!("PUT {A}"), &[("if-match", stale)], body).await;
    assert!(problem["detail"].as_str().unwrap().contains(&backend), "{problem}");
    let (status, _) = bench.refused("PUT /v1/pools/shop/backends/z", &[("if-match", "*")], body).await;
    assert_eq!(status, 412, "it is not there");
    let (status, _) = bench.refused(&format!("PUT {A}"), &[("if-none-match", "*")], body).await;
    assert_eq!(status, 412, "it is there");

    let written = bench.rig.send(&format!("PUT {A}"), &[("if-match", &format!("{stale}, {backend}"))], body).await;
    assert_eq!(written.status, 200);
    assert_eq!(written.header("etag"), tag_of(A).await, "a write answers with the new tag");
    assert_ne!(written.header("etag"), backend);
    assert_ne!(tag_of("/v1/pools/shop").await, pool);
    assert_eq!(bench.rig.send("PUT /v1/pools/shop/backends/z", &[("if-none-match", "*")], body).await.status, 201);
    assert_eq!(bench.rig.send("DELETE /v1/pools/spare", &[("if-match", &spare)], "").await.status, 200);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_stored_with_a_warning() {
    let bench = Bench::new();
    let answer = bench.rig.done(&format!("PUT {A}"), r#"{"address":"localhost:80"}"#).await;
    assert_eq!(answer["backend"]["resolved"], "127.0.0.1:80");
    assert!(!answer["warning"].as_str().unwrap().contains("resolve"), "{answer}");
    let answer = bench.rig.done(&format!("PATCH {A}"), r#"{"address":"no-such-host.invalid:80"}"#).await;
    assert_eq!(
        (&answer["backend"]["address"], &answer["backend"]["resolved"]),
        (&json!("no-such-host.invalid:80"), &Value::Null)
    );
    assert!(answer["warning"].as_str().unwrap().contains("`no-such-host.invalid` does not resolve"), "{answer}");
}

#[tokio::test]
async fn status_tells_what_to_look_at() {
    let bench = Bench::new();
    bench.rig.done(&format!("POST {}", a("/drain")), "").await;
    for name in ["a", "b"] {
        let call = format!("PUT /v1/pools/shop/backends/{name}/health");
        bench.rig.done(&call, r#"{"health":"down"}"#).await;
    }
    let status = bench.rig.done("GET /v1/status", "").await;
    assert_eq!((&status["version"], &status["source"]), (&json!("0.0.0-test"), &json!("api")));
    assert_eq!(status["generation"], bench.rig.generation());
    let shop = json!({
        "name": "shop", "backends": 2, "up": 0, "down": 2, "unknown": 0, "draining": 1, "maintenance": 0, "tunnels": 0,
        "live_sessions": null, "requests_in_flight": 0, "requests": 0, "responses_5xx": 0, "errors": 0, "unserved": 0,
        "sessions_lost": 0, "latency": null,
    });
    assert_eq!(status["pools"][0], shop);
    let problems =
        ["no data plane is connected", "all backends of pool `shop` are down", "pool `spare` has no backends"];
    assert_eq!(status["problems"], json!(problems));
}

#[tokio::test]
async fn a_reload_answers_all_problems_and_changes_nothing() {
    let bench = Bench::new();
    let wrong = |index: usize| Problem {
        path: Path::default().key("pool").index(index).key("name"),
        wrong: "is missing".into(),
        right: "write a name".into(),
    };
    let before = bench.rig.file.lock().unwrap().clone().unwrap();
    *bench.rig.file.lock().unwrap() = Err(vec![wrong(0), wrong(3)]);
    let (status, problem) = bench.refused("POST /v1/reload", &[], "").await;
    assert_eq!(status, 422);
    assert_eq!(
        problem["errors"][1],
        json!({ "pointer": "/pool/3/name", "detail": "is missing", "right": "write a name" })
    );

    let mut moved = before.clone();
    moved.listeners[0].bind = "127.0.0.1:1".into();
    *bench.rig.file.lock().unwrap() = Ok(moved);
    let (status, problem) = bench.refused("POST /v1/reload", &[], "").await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("`web` moves from"), "{problem}");

    let mut routed = before;
    routed.listeners[0].routes.push(Route { path: Some("/spare".into()), pool: "spare".into(), ..Route::default() });
    routed.admin.listen = "127.0.0.1:1".into();
    *bench.rig.file.lock().unwrap() = Ok(routed);
    let answer = bench.rig.done("POST /v1/reload", "").await;
    assert_eq!(answer["generation"], bench.rig.generation());
    assert_eq!(answer["warnings"], json!(["[admin] changed, which takes effect at the next start"]));
    assert_eq!(bench.refused("DELETE /v1/pools/spare", &[], "").await.0, 409, "a route leads to it now");
}

#[tokio::test]
async fn keys_rotate_and_are_never_shown() {
    let bench = Bench::new();
    let path = bench.folder.path().join("state/keys");
    let keys = || bench.rig.state.view().snapshot.desired.keys.clone();
    let first = keys();
    for (body, count, dropped) in [("", 2, 0), ("", 3, 0), ("", 3, 1), (r#"{"keep":2}"#, 2, 2)] {
        let before = keys();
        let answer = bench.call("POST /v1/keys/rotate", body).await;
        assert_eq!(
            (answer.status, &answer.body["keys"], &answer.body["dropped"]),
            (200, &json!(count), &json!(dropped))
        );
        assert_eq!((&keys()[1..], keys().len()), (&before[..count - 1], count));
        assert!(keys().iter().all(|key| !answer.text.contains(&key.to_base64())), "{}", answer.text);
        assert!(crate::keys::load(&path).unwrap().iter().map(|entry| &entry.key).eq(&keys()));
    }
    assert!(!keys().contains(&first[0]));
    std::fs::write(&path, "broken").unwrap();
    let (status, problem) = bench.refused("POST /v1/keys/rotate", &[], "").await;
    assert_eq!(status, 503);
    assert!(problem["detail"].as_str().unwrap().contains("line 1"), "{problem}");
}

#[tokio::test]
async fn explain_says_where_and_why() {
    let bench = Bench::new();
    let ask = async |question: Value| bench.rig.done("POST /v1/explain", &question.to_string()).await;
    let new = ask(json!({ "host": "shop.example.com:8080", "path": "/cart?x=1" })).await;
    assert_eq!((&new["listener"], &new["pool"], &new["outcome"]), (&json!("web"), &json!("shop"), &json!("new")));
    assert_eq!(
        (&new["candidates"], &new["backend"], &new["sets_cookie"]),
        (&json!(["a", "b"]), &Value::Null, &json!(true))
    );

    bench.rig.done("PUT /v1/pools/shop/backends/b/health", r#"{"health":"down"}"#).await;
    let one = ask(json!({ "pool": "shop", "cookie": "lb-affinity=AAAA; x=1" })).await;
    assert_eq!((&one["backend"], &one["listener"]), (&json!("a"), &Value::Null));
    assert!(one["why"][0].as_str().unwrap().contains("malformed"), "{one}");
    bench.rig.done(&format!("POST {}", a("/maintenance")), "").await;
    assert_eq!(ask(json!({ "pool": "shop" })).await["outcome"], "no-backend");
    for (question, there) in [(r#"{"pool":"no"}"#, "`shop`"), (r#"{"listener":"no"}"#, "`web`")] {
        let (status, problem) = bench.refused("POST /v1/explain", &[], question).await;
        assert!(status == 404 && problem["detail"].as_str().unwrap().contains(there), "{problem}");
    }

    let mut by_address = pool("addr", &[("x", "10.0.0.1:80"), ("y", "10.0.0.2:80"), ("z", "10.0.0.3:80")]);
    by_address.affinity = Affinity { mode: Mode::SourceIp, ..Affinity::default() };
    by_address.name.clear();
    bench
        .rig
        .done(
            "PUT /v1/pools/addr",
            &json!({
                "affinity": by_address.affinity, "backend": by_address.backends,
            })
            .to_string(),
        )
        .await;
    assert_eq!(ask(json!({ "pool": "addr" })).await["outcome"], "no-client");
    let home = ask(json!({ "pool": "addr", "client": "192.0.2.1" })).await;
    assert_eq!((&home["outcome"], home["session_key"].as_str().unwrap().len()), (&json!("pinned"), 16));
    let name = home["backend"].as_str().unwrap();
    bench.rig.done(&format!("PUT /v1/pools/addr/backends/{name}/health"), r#"{"health":"down"}"#).await;
    let moved = ask(json!({ "pool": "addr", "client": "192.0.2.1" })).await;
    assert_eq!((&moved["outcome"], &moved["session_key"]), (&json!("repinned"), &home["session_key"]));
    assert_ne!(moved["backend"], home["backend"]);
}

#[tokio::test]
async fn events_tell_what_happens_and_what_was_missed() {
    let bench = Bench::new();
    let last = bench.rig.state.events.follow(Some(0)).unwrap().missed.back().map_or(0, |event| event.id);
    bench.rig.done("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    bench.rig.done(&format!("POST {}", a("/drain")), "").await;
    bench.rig.done(&format!("PUT {}", a("/health")), r#"{"health":"down"}"#).await;
    bench.rig.done("PUT /v1/pools/shop", r#"{"balance":"ring"}"#).await;
    bench.rig.done("POST /v1/keys/rotate", "").await;
    bench.rig.done("POST /v1/reload", "").await;
    bench.rig.done("DELETE /v1/pools/shop/backends/c", "").await;
    let request = Request::get("/v1/events").header("host", "localhost").header("last-event-id", last.to_string());
    let answer = bench.rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let (mut stream, mut text) = (answer.into_body().into_data_stream(), String::new());
    while text.matches("event: membership").count() < 2 || !text.ends_with("\n\n") {
        text.push_str(str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    bench.rig.state.stopping.send_replace(true);
    assert!(stream.next().await.is_none(), "the stream ends with the process");
    let events: Vec<_> = text.split("\n\n").filter(|event| event.contains("event: ")).collect();
    let part =
        |event: &str, name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let kinds: Vec<_> = events.iter().map(|event| part(event, "event:")).filter(|kind| kind != "missed").collect();
    assert_eq!(kinds, ["membership", "admin-state", "health", "settings", "keys", "reload", "membership"], "{}", text);
    let ids: Vec<u64> = events.iter().map(|event| part(event, "id:").parse().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let drained = events.iter().find(|event| event.contains("admin-state")).unwrap();
    let data: Value = serde_json::from_str(&part(drained, "data:")).unwrap();
    assert_eq!((&data["backend"], &data["admin_state"]), (&json!("a"), &json!("draining")));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let bench = Bench::new();
    bench.rig.done(&format!("PUT {}", a("/health")), r#"{"health":"down"}"#).await;
    bench.rig.done("POST /v1/pools/shop/backends/b/maintenance", "").await;
    let answer = bench.call("GET /metrics", "").await;
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let mut family = String::new();
    for line in answer.text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !name.is_empty(), "{line}");
            name.clone_into(&mut family);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let expected = match family.rsplit('_').next() {
                Some("total") => "counter",
                Some("seconds") if family.contains("_response_") => "histogram",
                _ => "gauge",
            };
            assert_eq!(kind, format!("{family} {expected}"));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), family, "{line}");
            value.parse::<f64>().unwrap();
        }
    }
    for line in [
        "steadfast_build_info{version=\"0.0.0-test\"} 1".to_owned(),
        format!("steadfast_generation {}", bench.rig.generation()),
        "steadfast_dataplanes_connected 0".to_owned(),
        "steadfast_backend_up{pool=\"shop\",backend=\"a\"} 0".to_owned(),
        "steadfast_backend_up{pool=\"shop\",backend=\"b\"} 1".to_owned(),
        "steadfast_backend_admin_state{pool=\"shop\",backend=\"b\"} 2".to_owned(),
        "steadfast_pool_no_backend_total{pool=\"spare\"} 0".to_owned(),
    ] {
        assert!(answer.text.lines().any(|found| found == line), "{line}\n{}", answer.text);
    }
}

#[tokio::test]
async fn the_description_has_every_call_and_nothing_dangles() {
    let bench = Bench::new();
    let api = bench.rig.done("GET /openapi.json", "").await;
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut calls = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            calls.push(format!("{method} {path}"));
            let content = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            let parameters = operation["parameters"]
                .as_array()
                .map_or(0, |parameters| parameters.iter().filter(|parameter| parameter["in"] == "path").count());
            assert_eq!(parameters, path.matches('{').count(), "{method} {path}");
        }
    }
    for call in [
        "get /v1/pools",
        "put /v1/pools/{pool}",
        "patch /v1/pools/{pool}/backends/{name}",
        "post /v1/explain",
        "post /v1/pools/{pool}/backends/{name}/drain",
        "get /v1/events",
        "get /metrics",
        "get /readyz",
    ] {
        assert!(calls.iter().any(|found| found == call), "{call}: {calls:?}");
    }
    let text = api.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(api["components"]["schemas"][name].is_object(), "{name} is not described");
    }
    let page = bench.call("GET /", "").await;
    assert!(page.status == 200 && page.text.contains("/dashboard/app.js"));
}
