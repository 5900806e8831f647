use crate::{
    control_server::peers::Peer,
    testing::{Answer, Folder, Rig, from_file, pool},
};
use control::{
    release::By,
    spec::{Affinity, Mode},
    status::{PoolStats, ReleaseStats, StageStats, Stats},
};
use serde_json::{Value, json};

const RELEASE: &str = "/v1/pools/shop/release";

fn start() -> (Rig, Folder) {
    let folder = Folder::new();
    let mut config = folder.config(&[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]);
    let free = Affinity { mode: Mode::None, ..Affinity::default() };
    config.pools.push(control::spec::Pool { affinity: free, ..pool("free", &[]) });
    (Rig::start(config), folder)
}

async fn put(rig: &Rig, body: Value) -> Answer {
    rig.call(&format!("PUT {RELEASE}"), &body.to_string()).await
}

#[tokio::test]
async fn a_release_is_made_read_kept_and_removed() {
    let (rig, folder) = start();
    assert_eq!(rig.call(&format!("GET {RELEASE}"), "").await.status, 404);
    let made = rig.call(&format!("PUT {RELEASE}"), "").await;
    assert_eq!(made.status, 201, "{}", made.text);
    let shown = &made.body["release"];
    assert_eq!(shown["steps"], json!([1.0, 5.0, 10.0, 25.0, 50.0, 100.0]));
    assert_eq!((&shown["hold"], &shown["harm"], &shown["alpha"]), (&json!("10m"), &json!(0.1), &json!(0.01)));
    assert_eq!((&shown["verdict"], &shown["percent"]), (&json!("not-enough-traffic"), &json!(1.0)));
    assert_eq!(shown["why"][0], "no data plane has reported anything of it yet");
    let (tag, generation) = (made.header("etag").to_owned(), rig.generation());
    let again = put(&rig, json!({})).await;
    assert_eq!((again.status, again.header("etag"), rig.generation()), (200, tag.as_str(), generation));
    let pool = rig.call("GET /v1/pools/shop", "").await.header("etag").to_owned();
    let other = rig.send(&format!("PUT {RELEASE}"), &[("if-match", "\"no\"")], r#"{"percent":10}"#).await;
    assert_eq!(other.status, 412);
    let other = rig.send(&format!("PUT {RELEASE}"), &[("if-match", &tag)], r#"{"percent":10}"#).await;
    assert_eq!((other.status, &other.body["release"]["steps"]), (200, &json!([10.0])));
    assert_eq!(rig.call("GET /v1/pools/shop", "").await.header("etag"), pool, "the pool is as it was");
    drop(rig);
    let rig = Rig::start(folder.config(&[]));
    let kept = rig.done(&format!("GET {RELEASE}"), "").await;
    assert_eq!((&kept["state"], &kept["percent"]), (&json!("running"), &json!(10.0)));
    rig.done(&format!("DELETE {RELEASE}"), "").await;
    assert_eq!(rig.call(&format!("GET {RELEASE}"), "").await.status, 404);
    drop(rig);
    let rig = Rig::start(folder.config(&[]));
    assert_eq!(rig.call(&format!("GET {RELEASE}"), "").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_would_be_right() {
    let (rig, _folder) = start();
    for (body, status, pointer, right) in [
        (json!({"percent": 0}), 422, "/percent", "0.01 to 100"),
        (json!({"percent": 100}), 422, "/percent", "begin below 100"),
        (json!({"steps": [100]}), 422, "/steps", "begin below 100"),
        (json!({"steps": []}), 422, "/steps", "1 to 16"),
        (json!({"steps": [1, 101]}), 422, "/steps/1", "0.01 to 100"),
        (json!({"percent": 1, "steps": [1]}), 422, "/percent", "leave one"),
        (json!({"hold": "0s"}), 422, "/hold", "365d"),
        (json!({"harm": 0}), 422, "/harm", "0.005 to 1"),
        (json!({"alpha": 1}), 422, "/alpha", "0.0001 to 0.2"),
        (json!({"login_path": "login"}), 422, "/login_path", "/login"),
        (json!({"session_cookie": "a=b"}), 422, "/session_cookie", "JSESSIONID"),
        (json!({"cache_header": "X Cache"}), 422, "/cache_header", "X-Cache"),
        (json!({"cache_hit": "HIT"}), 422, "/cache_hit", "name that"),
        (json!({"cache_header": "X-Cache", "cache_hit": ""}), 422, "/cache_hit", "HIT"),
        (json!({"percents": 1}), 422, "/percents", "percent"),
    ] {
        let answer = put(&rig, body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        let error = &answer.body["errors"][0];
        assert_eq!(error["pointer"], pointer, "{body}: {}", answer.text);
        assert!(error.to_string().contains(right), "{body}: {error}");
    }
    let unordered = put(&rig, json!({"steps": [10, 5, 100]})).await;
    assert_eq!((unordered.status, &unordered.body["type"]), (409, &json!("urn:steadfast:problem:steps-dont-grow")));
    let free = rig.call("PUT /v1/pools/free/release", "{}").await;
    assert_eq!((free.status, &free.body["type"]), (409, &json!("urn:steadfast:problem:cant-release")), "{}", free.text);
    assert_eq!(rig.call("PUT /v1/pools/none/release", "{}").await.status, 404);
    let folder = Folder::new();
    let rig = Rig::start(from_file(folder.config(&[])));
    assert_eq!(put(&rig, json!({})).await.status, 409, "the file is the source");
}

/// What one data plane reports of the release that there is.
fn report(rig: &Rig, sessions: By<u64>, shown: By<u64>) -> Stats {
    use control::release::Signal;
    let release = &rig.state.view().snapshot.desired.releases["shop"];
    let mut tests = [By::default(); control::release::TIMES.len()];
    tests[0] = shown;
    let share = release.basis_points();
    let stage = StageStats { share, sessions, elsewhere: sessions.released, shown: [(Signal::Denied, tests)].into() };
    let cached = By { released: 5_000, control: 50_000 };
    let stats = ReleaseStats {
        id: release.id,
        stages: vec![stage],
        requests: cached,
        cached,
        hits: By { released: 4_990, control: 49_900 },
        ..ReleaseStats::default()
    };
    let pool = PoolStats { release: Some(stats), ..PoolStats::default() };
    Stats { pools: [("shop".to_owned(), pool)].into(), ..Stats::default() }
}

#[tokio::test]
async fn a_report_tells_the_verdict_its_numbers_and_advice() {
    let (rig, _folder) = start();
    rig.done(&format!("PUT {RELEASE}"), r#"{"percent": 10, "cache_header": "X-Cache"}"#).await;
    let (id, _, _outbox) = rig.state.connect(Peer::default(), 0);
    let sessions = By { released: 1_000, control: 9_000 };
    rig.state.set_stats(id, report(&rig, sessions, By { released: 10, control: 90 }));
    let shown = rig.done(&format!("GET {RELEASE}"), "").await;
    assert_eq!(shown["verdict"], "looks-stateless", "{shown}");
    assert!(shown["detectable"].as_f64().unwrap() < 0.1, "{shown}");
    assert_eq!(shown["sessions"], json!({"released": 1_000, "control": 9_000}));
    let denied = &shown["signals"][1];
    assert_eq!((&denied["signal"], &denied["shares"]), (&json!("denied"), &json!({"released": 0.01, "control": 0.01})));
    assert!(shown["advice"][0].as_str().unwrap().starts_with("affinity buys nothing here"), "{shown}");
    let metrics = rig.call("GET /metrics", "").await.text;
    for line in ["release_share{pool=\"shop\"} 0.1", "release_verdict{pool=\"shop\"} 1"] {
        assert!(metrics.contains(&format!("steadfast_pool_{line}\n")), "{metrics}");
    }
    // Another release's figures say nothing.
    let old = report(&rig, sessions, By { released: 900, control: 0 });
    rig.done(&format!("PUT {RELEASE}"), r#"{"percent": 20}"#).await;
    rig.state.set_stats(id, old);
    assert_eq!(rig.done(&format!("GET {RELEASE}"), "").await["verdict"], "not-enough-traffic");
}

#[tokio::test]
async fn a_report_of_harm_stops_it_and_says_so() {
    let (rig, _folder) = start();
    rig.done(&format!("PUT {RELEASE}"), r#"{"percent": 10}"#).await;
    let keeping = std::sync::Arc::clone(&rig.state).keep_releases();
    let mut feed = rig.state.events.follow(None).unwrap();
    let (id, _, _outbox) = rig.state.connect(Peer::default(), 0);
    rig.state.set_stats(id, report(&rig, By { released: 9, control: 81 }, By { released: 9, control: 1 }));
    let stopped = async {
        loop {
            let event = feed.live.recv().await.unwrap();
            if event.kind == crate::events::Kind::Release {
                break event.data;
            }
        }
    };
    let event = tokio::select! { () = keeping => unreachable!("it goes on"), event = stopped => event };
    assert!(event.contains("\"change\":\"stopped\"") && event.contains("9 of 9 released sessions"), "{event}");
    let shown = rig.done(&format!("GET {RELEASE}"), "").await;
    assert_eq!(
        (&shown["state"], &shown["verdict"], &shown["percent"]),
        (&json!("stopped"), &json!("is-not"), &json!(0.0))
    );
    assert_eq!(shown["why"][1], "the released sessions are back on their pins");
}
