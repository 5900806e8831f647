use super::*;
use crate::testing::{Folder, Rig};
use control::{
    desired::{Change, Snapshot},
    message::{PROTOCOL, ToAdmin, from_line, to_line},
    sketch::Sketch,
    status::{BackendStats, Health, PoolStats},
};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    task::JoinHandle,
};

/// An admin process with its control socket.
struct Admin {
    rig: Arc<Rig>,
    path: PathBuf,
    _server: JoinHandle<()>,
    folder: Folder,
}

impl Admin {
    async fn start() -> Self {
        let folder = Folder::new();
        let config = folder.config(&[("a", "10.0.0.1:80"), ("b", "10.0.0.2:80")]);
        let path = config.global.control_socket();
        let rig = Arc::new(Rig::start(config));
        let listener = bind(&path).await.unwrap();
        let server = tokio::spawn(serve(Arc::clone(&rig.state), listener));
        Self { rig, path, _server: server, folder }
    }

    /// A call that goes on while the data plane answers.
    fn begin(&self, call: &'static str, body: &'static str) -> JoinHandle<Value> {
        let rig = Arc::clone(&self.rig);
        tokio::spawn(async move { rig.done(call, body).await })
    }

    async fn until(&self, holds: impl Fn(&crate::state::View) -> bool) {
        let mut planes = self.rig.state.planes.subscribe();
        while !holds(&self.rig.state.view()) {
            planes.changed().await.unwrap();
        }
    }
}

/// A data plane that does what a test says.
struct Plane {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Plane {
    async fn connect(path: &Path) -> Self {
        let (read, write) = UnixStream::connect(path).await.unwrap().into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    /// Says hello as one that serves by `generation`, and takes the hello and the snapshot that come.
    async fn greet(path: &Path, generation: u64) -> (Self, Snapshot) {
        let mut plane = Self::connect(path).await;
        let version = "0.0.0-test".to_owned();
        let (pid, workers, started, sketches) = (42, 3, 1, true);
        let protocol = PROTOCOL;
        plane
            .say(&ToAdmin::Hello { protocol, version, pid, workers, generation, started, sketches, sandbox: None })
            .await;
        let ToDataplane::Hello { protocol: PROTOCOL, .. } = plane.hear().await else { panic!("no hello") };
        let ToDataplane::Snapshot { snapshot } = plane.hear().await else { panic!("no snapshot") };
        (plane, *snapshot)
    }

    async fn say(&mut self, message: &ToAdmin) {
        self.write.write_all(&to_line(message)).await.unwrap();
    }

    async fn hear(&mut self) -> ToDataplane {
        from_line(self.lines.next_line().await.unwrap().expect("the connection is open").as_bytes()).unwrap()
    }

    async fn hear_delta(&mut self) -> (u64, u64, Vec<Change>) {
        match self.hear().await {
            ToDataplane::Delta { base, generation, changes, .. } => (base, generation, changes),
            other @ (ToDataplane::Hello { .. }
            | ToDataplane::Snapshot { .. }
            | ToDataplane::Report
            | ToDataplane::Sketch { .. }) => panic!("{other:?}"),
        }
    }

    async fn apply(&mut self, generation: u64) {
        self.say(&ToAdmin::Applied { generation }).await;
    }

    async fn is_closed(&mut self) -> bool {
        loop {
            match self.lines.next_line().await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return true,
            }
        }
    }
}

/// A report on pool `shop`, in which each backend has so many sessions and one request in flight for each.
fn report(generation: u64, backends: &[(&str, u64)]) -> ToAdmin {
    let stats = |sessions| BackendStats {
        counts: [("requests".to_owned(), 100), ("sessions_lost".to_owned(), 2)].into(),
        requests_in_flight: sessions,
        requests_queued: 0,
        live_sessions: Some(sessions),
        ..BackendStats::default()
    };
    let backends = backends.iter().map(|(name, sessions)| ((*name).to_owned(), stats(*sessions))).collect();
    let pool = PoolStats { counts: [("pinned".to_owned(), 7)].into(), backends, ..PoolStats::default() };
    let stats = Stats {
        at: clock::unix_millis(),
        generation,
        dataplane: [("requests".to_owned(), 9)].into(),
        open_connections: 4,
        pools: [("shop".to_owned(), pool)].into(),
        ..Stats::default()
    };
    ToAdmin::Stats { stats: Box::new(stats) }
}

#[tokio::test]
async fn a_write_is_applied_once_every_data_plane_has_it() {
    let admin = Admin::start().await;
    let (mut first, snapshot) = Plane::greet(&admin.path, 0).await;
    let (mut second, _) = Plane::greet(&admin.path, 0).await;
    assert_eq!(snapshot, *admin.rig.state.view().snapshot);
    first.apply(snapshot.generation).await;
    second.apply(snapshot.generation).await;

    let write = admin.begin("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#);
    let (base, generation, changes) = first.hear_delta().await;
    assert_eq!((base, generation), (snapshot.generation, snapshot.generation + 1));
    assert!(matches!(&changes[..], [Change::PutMember { name, .. }] if name == "c"), "{changes:?}");
    assert_eq!(second.hear_delta().await, (base, generation, changes));
    first.apply(generation).await;
    admin.until(|view| view.peers[0].applied == generation).await;
    assert!(!write.is_finished(), "one of two has it");
    second.apply(generation).await;
    let answer = write.await.unwrap();
    assert_eq!(
        (&answer["generation"], &answer["applied"], &answer["workers"]),
        (&generation.into(), &true.into(), &6.into())
    );

    // A write that changes nothing is applied already.
    let again = admin.rig.done("PUT /v1/pools/shop/backends/c", r#"{"address":"10.0.0.3:80"}"#).await;
    assert_eq!((&again["generation"], &again["applied"]), (&generation.into(), &true.into()));

    // One that goes is not waited for; one that comes is.
    let write = admin.begin("POST /v1/pools/shop/backends/c/maintenance", "");
    let (_, generation, _) = first.hear_delta().await;
    first.apply(generation).await;
    drop(second);
    assert_eq!(write.await.unwrap()["applied"], true);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_applied_says_why() {
    let admin = Admin::start().await;
    let warning = |answer: &Value| answer["warning"].as_str().unwrap().to_owned();
    let alone = admin.rig.done("POST /v1/pools/shop/backends/a/maintenance", "").await;
    assert_eq!(
        (&alone["applied"], warning(&alone)),
        (&false.into(), "no data plane is connected: it applies this when it comes".into())
    );

    let (mut plane, snapshot) = Plane::greet(&admin.path, 0).await;
    plane.apply(snapshot.generation).await;
    let write = admin.begin("POST /v1/pools/shop/backends/a/activate", "");
    let (_, generation, _) = plane.hear_delta().await;
    let answer = write.await.unwrap();
    assert_eq!(
        (&answer["applied"], warning(&answer)),
        (&false.into(), format!("the data plane with pid 42 is at generation {}", snapshot.generation))
    );

    plane.say(&ToAdmin::Rejected { generation, reason: "too many points".into() }).await;
    admin.until(|view| view.peers[0].rejected.is_some()).await;
    let answer = admin.rig.done("POST /v1/pools/shop/backends/a/activate", "").await;
    assert_eq!(warning(&answer), "the data plane with pid 42 can't apply it: too many points");
    let status = admin.rig.done("GET /v1/status", "").await;
    assert!(status["problems"][0].as_str().unwrap().contains("too many points"), "{status}");
    plane.apply(generation).await;
    admin.until(|view| view.peers[0].rejected.is_none()).await;
    assert_eq!(admin.rig.done("POST /v1/pools/shop/backends/a/activate", "").await["applied"], true);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_data_plane_is_turned_away_and_disturbs_nobody() {
    let admin = Admin::start().await;
    let (mut good, snapshot) = Plane::greet(&admin.path, 0).await;
    let hello = |protocol, generation| ToAdmin::Hello {
        protocol,
        version: "9".into(),
        pid: 1,
        workers: 1,
        generation,
        started: 1,
        sketches: false,
        sandbox: None,
    };
    let long = vec![b'x'; 64 << 10];
    for first in [
        to_line(&hello(PROTOCOL + 1, 0)),
        to_line(&hello(PROTOCOL, 1 << 53)),
        to_line(&ToAdmin::Applied { generation: 1 }),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\n".to_vec(),
        long,
        // Nothing at all, until time is up.
        Vec::new(),
    ] {
        let mut bad = Plane::connect(&admin.path).await;
        bad.write.write_all(&first).await.unwrap();
        assert!(bad.is_closed().await, "{:.60}", String::from_utf8_lossy(&first));
    }
    for later in
        [to_line(&hello(PROTOCOL, 0)), b"{\"type\":\"surprise\"}\n".to_vec(), b"\xff\xfe\n".to_vec(), b"{}\n".to_vec()]
    {
        let (mut bad, _) = Plane::greet(&admin.path, 0).await;
        bad.write.write_all(&later).await.unwrap();
        assert!(bad.is_closed().await, "{:.60}", String::from_utf8_lossy(&later));
    }
    good.apply(snapshot.generation).await;
    admin.until(|view| view.peers.len() == 1 && view.peers[0].applied == snapshot.generation).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_is_cut_off_and_gets_a_snapshot_when_it_comes_back() {
    let admin = Admin::start().await;
    let (mut reads, _) = Plane::greet(&admin.path, 0).await;
    let (slow, _) = Plane::greet(&admin.path, 0).await;
    // More than a socket and the queue hold together.
    let host = "x".repeat(200);
    let reader = tokio::spawn(async move { while !matches!(reads.hear().await, ToDataplane::Report) {} });
    while admin.rig.state.view().peers.len() == 2 {
        for weight in 0..64 {
            let address = format!("{host}.internal:{}", weight + 1);
            let change = Change::PutMember {
                pool: "shop".into(),
                name: "a".into(),
                member: control::desired::Member {
                    address,
                    ..admin.rig.state.view().snapshot.desired.pools["shop"].members["a"].clone()
                },
            };
            admin.rig.state.publish(admin.rig.state.lock(), vec![change]);
        }
        tokio::task::yield_now().await;
    }
    admin.rig.state.ask_for_reports();
    reader.await.unwrap();
    drop(slow);
    let (_, snapshot) = Plane::greet(&admin.path, 5).await;
    assert_eq!(snapshot, *admin.rig.state.view().snapshot);
}

#[tokio::test]
async fn a_data_plane_that_is_ahead_is_overtaken() {
    let admin = Admin::start().await;
    let (mut first, before) = Plane::greet(&admin.path, 0).await;
    let (_, snapshot) = Plane::greet(&admin.path, 1_000_000).await;
    assert_eq!(snapshot.generation, 1_000_001);
    assert_eq!(first.hear_delta().await, (before.generation, 1_000_001, vec![]), "the others follow");
}

#[tokio::test]
async fn reports_are_merged_into_what_rest_and_metrics_show() {
    let admin = Admin::start().await;
    let (mut plane, snapshot) = Plane::greet(&admin.path, 0).await;
    plane.say(&report(snapshot.generation, &[("a", 3), ("b", 5)])).await;
    plane.say(&report(snapshot.generation, &[("b", 6)])).await;
    admin
        .until(|view| {
            view.peers[0].stats.pools.get("shop").is_some_and(|pool| pool.backends["b"].live_sessions == Some(6))
        })
        .await;
    let pool = admin.rig.done("GET /v1/pools/shop", "").await;
    let figures = |at: usize| {
        let backend = &pool["backends"][at];
        ["live_sessions", "requests_in_flight", "requests", "sessions_lost"].map(|key| backend[key].as_u64().unwrap())
    };
    assert_eq!((figures(0), figures(1)), ([3, 3, 100, 2], [6, 6, 100, 2]));
    let metrics = admin.rig.call("GET /metrics", "").await.text;
    for line in [
        "steadfast_backend_requests_total{pool=\"shop\",backend=\"a\"} 100",
        "steadfast_backend_live_sessions{pool=\"shop\",backend=\"b\"} 6",
        "steadfast_backend_requests_in_flight{pool=\"shop\",backend=\"b\"} 6",
        "steadfast_pool_pinned_total{pool=\"shop\"} 7",
        "steadfast_dataplane_requests_total 9",
        "steadfast_open_connections 4",
        "steadfast_dataplanes_connected 1",
        "steadfast_workers 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    // What was counted for a backend that is gone does not fall on a namesake.
    let remove = admin.begin("DELETE /v1/pools/shop/backends/a", "");
    let (_, generation, _) = plane.hear_delta().await;
    plane.apply(generation).await;
    remove.await.unwrap();
    let add = admin.begin("PUT /v1/pools/shop/backends/a", r#"{"address":"10.0.0.1:80"}"#);
    let (_, generation, _) = plane.hear_delta().await;
    plane.apply(generation).await;
    assert_eq!(add.await.unwrap()["backend"]["requests"], 0);
}

#[tokio::test]
async fn a_mark_from_traffic_is_everybodys_at_once() {
    let admin = Admin::start().await;
    let (mut plane, _) = Plane::greet(&admin.path, 0).await;
    let failing = |backend: &str| ToAdmin::Failing {
        pool: "shop".into(),
        backend: backend.into(),
        reason: "connection refused".into(),
    };
    plane.say(&failing("no-such")).await;
    plane.say(&failing("a")).await;
    let (_, _, changes) = plane.hear_delta().await;
    assert!(
        matches!(&changes[..], [Change::Observe { name, observed, .. }] if name == "a" && observed.health == Health::Down),
        "{changes:?}"
    );
    let backend = admin.rig.done("GET /v1/pools/shop/backends/a", "").await;
    assert_eq!((&backend["health"], &backend["health_reason"]), (&"down".into(), &"connection refused".into()));
}

#[tokio::test]
async fn drain_waits_until_every_data_plane_reports_that_nothing_is_left() {
    let admin = Admin::start().await;
    let (mut first, snapshot) = Plane::greet(&admin.path, 0).await;
    let (mut second, _) = Plane::greet(&admin.path, 0).await;
    first.say(&report(snapshot.generation, &[("a", 4), ("b", 1)])).await;
    second.say(&report(snapshot.generation, &[("a", 0), ("b", 1)])).await;
    admin.until(|view| view.peers.iter().all(|peer| peer.reported_at.is_some())).await;

    let wait = admin.begin("POST /v1/pools/shop/backends/a/drain?wait=empty&timeout=30s", "");
    let (_, generation, _) = first.hear_delta().await;
    second.hear_delta().await;
    // A report of before says nothing about after.
    first.say(&report(snapshot.generation, &[("a", 0)])).await;
    first.apply(generation).await;
    second.apply(generation).await;
    assert_eq!((first.hear().await, second.hear().await), (ToDataplane::Report, ToDataplane::Report));
    first.say(&report(generation, &[("a", 1)])).await;
    second.say(&report(generation, &[("a", 0)])).await;
    admin.until(|view| view.peers.iter().all(|peer| peer.stats.generation == generation)).await;
    assert!(!wait.is_finished(), "one session is left");
    let progress = &admin.rig.done("GET /v1/pools/shop/backends/a", "").await["drain_progress"];
    assert_eq!((&progress["sessions_at_start"], &progress["live_sessions"]), (&4.into(), &1.into()));
    first.say(&report(generation, &[("a", 0)])).await;
    second.say(&report(generation, &[("a", 0)])).await;
    let answer = wait.await.unwrap();
    assert_eq!((&answer["empty"], &answer["applied"]), (&true.into(), &true.into()));
    let feed = admin.rig.state.events.follow(Some(0)).unwrap();
    let drains = feed.missed.iter().filter(|event| event.kind == Kind::Drain).count();
    assert_eq!(drains, 1, "its end is told once");
}

/// Fixed: a drain that was to end with that was answered 404 where it was over before all workers acted on it.
#[tokio::test]
async fn a_write_is_answered_as_done_though_its_backend_is_gone_by_then() {
    let admin = Admin::start().await;
    let (mut plane, snapshot) = Plane::greet(&admin.path, 0).await;
    plane.apply(snapshot.generation).await;
    let drain = admin.begin("POST /v1/pools/shop/backends/a/drain", r#"{"mode":"persist","deadline":"30m"}"#);
    let (_, drained, _) = plane.hear_delta().await;
    let remove = admin.begin("DELETE /v1/pools/shop/backends/a", "");
    let (_, removed, _) = plane.hear_delta().await;
    plane.apply(removed).await;
    let (drain, _) = (drain.await.unwrap(), remove.await.unwrap());
    assert_eq!((&drain["generation"], &drain["applied"]), (&drained.into(), &true.into()), "{drain}");
    assert_eq!(drain["backend"]["admin_state"], "draining", "as it left it");
    assert!(drain["warning"].as_str().unwrap().contains("has been removed since"), "{drain}");

    let body = r#"{"then":"remove"}"#;
    let wait = admin.begin("POST /v1/pools/shop/backends/b/drain?wait=empty&timeout=30s", body);
    let (_, drained, _) = plane.hear_delta().await;
    plane.apply(drained).await;
    while !matches!(plane.hear().await, ToDataplane::Report) {}
    admin
        .rig
        .state
        .publish(admin.rig.state.lock(), vec![Change::RemoveMember { pool: "shop".into(), name: "b".into() }]);
    let answer = wait.await.unwrap();
    assert_eq!((&answer["empty"], &answer["generation"]), (&true.into(), &drained.into()), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn drain_says_what_is_left_when_time_is_up() {
    let admin = Admin::start().await;
    let nobody = admin.rig.done("POST /v1/pools/shop/backends/b/drain?wait=empty&timeout=1s", "").await;
    assert_eq!((&nobody["empty"], &nobody["applied"]), (&false.into(), &false.into()));

    let (mut plane, snapshot) = Plane::greet(&admin.path, 0).await;
    plane.say(&report(snapshot.generation, &[("a", 4), ("b", 1)])).await;
    admin.until(|view| view.peers[0].reported_at.is_some()).await;
    let wait = admin.begin("POST /v1/pools/shop/backends/a/drain?wait=empty&timeout=10s", "");
    let (_, generation, _) = plane.hear_delta().await;
    plane.apply(generation).await;
    let answers = tokio::spawn(async move {
        for asked in 1.. {
            assert_eq!(plane.hear().await, ToDataplane::Report, "{asked}");
            plane.say(&report(generation, &[("a", 3)])).await;
        }
    });
    let answer = wait.await.unwrap();
    assert_eq!((&answer["empty"], &answer["applied"]), (&false.into(), &true.into()));
    answers.abort();
    let progress = &answer["backend"]["drain_progress"];
    assert_eq!(
        (&progress["live_sessions"], &progress["requests_in_flight"], &progress["share_done"]),
        (&3.into(), &3.into(), &0.25.into())
    );
}

#[tokio::test]
async fn the_probes_tell_whether_anybody_serves() {
    let admin = Admin::start().await;
    let ready = || async { admin.rig.call("GET /readyz", "").await };
    let none = ready().await;
    assert_eq!((none.status, none.body["detail"].as_str()), (503, Some("no data plane is connected")));
    assert_eq!(admin.rig.call("GET /healthz", "").await.status, 200);
    let (mut plane, snapshot) = Plane::greet(&admin.path, 0).await;
    assert_eq!(ready().await.status, 503, "it serves nothing yet");
    plane.apply(snapshot.generation).await;
    admin.until(|view| view.peers[0].applied > 0).await;
    assert_eq!(ready().await.status, 200);
    drop(plane);
    admin.until(|view| view.peers.is_empty()).await;
    assert_eq!(ready().await.status, 503);
}

#[tokio::test]
async fn stopping_closes_connections_and_ends_waits() {
    let admin = Admin::start().await;
    let (mut plane, _) = Plane::greet(&admin.path, 0).await;
    let rig = Arc::clone(&admin.rig);
    let wait =
        tokio::spawn(async move { rig.call("POST /v1/pools/shop/backends/a/drain?wait=empty", "").await.status });
    let (_, generation, _) = plane.hear_delta().await;
    plane.apply(generation).await;
    assert_eq!(plane.hear().await, ToDataplane::Report);
    admin.rig.state.stopping.send_replace(true);
    assert_eq!(wait.await.unwrap(), 503);
    assert!(plane.is_closed().await);
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_only_a_dead_one_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let admin = Admin::start().await;
    assert_eq!(admin.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let error = bind(&admin.path).await.unwrap_err().to_string();
    assert_eq!(error, format!("can't listen on unix:{}: another process answers on it", admin.path.display()));
    let stale = admin.folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    bind(&stale).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_can_tell_sketches_is_asked_once_for_all_who_wait() {
    let admin = Admin::start().await;
    let mut old = Plane::connect(&admin.path).await;
    let (protocol, version) = (PROTOCOL, "0.0.0-old".to_owned());
    let hello = ToAdmin::Hello {
        protocol,
        version,
        pid: 1,
        workers: 1,
        generation: 0,
        started: 1,
        sketches: false,
        sandbox: None,
    };
    old.say(&hello).await;
    let (mut plane, _) = Plane::greet(&admin.path, 0).await;
    let ask = || {
        let state = Arc::clone(&admin.rig.state);
        tokio::spawn(async move { state.sketches("shop").await })
    };
    let two = [ask(), ask()];
    assert_eq!(plane.hear().await, ToDataplane::Report, "the figures come before");
    assert_eq!(plane.hear().await, ToDataplane::Sketch { pool: "shop".to_owned() });
    let sketch = Sketch { below: Some(9), ..Sketch::default() };
    plane.say(&ToAdmin::Sketch { pool: "other".to_owned(), sketch: Box::default() }).await;
    plane.say(&ToAdmin::Sketch { pool: "shop".to_owned(), sketch: Box::new(sketch.clone()) }).await;
    for asked in two {
        let told: BTreeMap<_, _> = asked.await.unwrap().into_iter().map(|told| (told.pid, told.sketch)).collect();
        assert_eq!(told[&42], Ok(Arc::new(sketch.clone())));
        assert!(told[&1].as_ref().unwrap_err().contains("of a version"), "{told:?}");
    }
    // One that does not answer in time, and one that goes, are told; the next question is asked anew.
    let late = ask().await.unwrap();
    assert!(
        late.iter().any(|told| told.pid == 42 && told.sketch.as_ref().is_err_and(|why| why.contains("within 1 s")))
    );
    let asked = ask();
    while plane.hear().await != (ToDataplane::Sketch { pool: "shop".to_owned() }) {}
    drop(plane);
    let gone = asked.await.unwrap();
    assert!(gone.iter().any(|told| told.pid == 42 && told.sketch.is_err()), "{gone:?}");
}
