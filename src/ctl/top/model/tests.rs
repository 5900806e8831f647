use super::*;

fn dataplane() -> Value {
    json!({"pid": 7, "workers": 2, "applied_generation": 4, "report_age": 100})
}

fn status(pools: Value) -> Value {
    json!({"version": "0.1.0", "uptime_seconds": 65, "generation": 4, "source": "api", "problems": [],
        "dataplanes": [dataplane()], "pools": pools})
}

fn pool(requests: u64, live: u64) -> Value {
    json!({"name": "shop", "backends": 2, "up": 1, "down": 1, "unknown": 0, "draining": 0, "maintenance": 0, "tunnels": 0,
        "live_sessions": live, "requests_in_flight": 1, "requests": requests, "responses_5xx": requests / 10, "errors": 0,
        "unserved": 0, "sessions_lost": 0, "latency": {"responses": 9, "p50": 1.5, "p99": 20.0}})
}

fn opened(state: &str, requests: u64) -> Open {
    let backend = |name: &str| {
        json!({"name": name, "admin_state": state, "health": "up", "live_sessions": 3, "requests_in_flight": 1, "tunnels": 2,
            "requests": requests, "errors": 0, "counts": {"responses_5xx": 0}, "sessions_lost": 0})
    };
    let returning = json!({"requests": 100, "pinned": 90});
    let left = json!({"repinned_down": 4, "repinned_retry": 1, "spilled": 2, "released": 1, "lost_incarnation": 1, "failed_down": 1});
    Open {
        name: "shop".to_owned(),
        pool: Some(json!({"name": "shop", "backends": [backend("a"), backend("b")]})),
        stickiness: Some(json!({"windows": [{"minutes": 1, "returning": returning, "left": left}]})),
    }
}

fn told(requests: u64, live: u64) -> Told {
    Told { status: status(json!([pool(requests, live)])), open: Some(opened("active", requests)) }
}

fn model(names: &[&str]) -> Model {
    Model::new(names.iter().map(|name| (*name).to_owned()).collect(), 4_500)
}

fn requests_of(model: &Model) -> (Option<f64>, Option<f64>) {
    let rate = |row: &Row| row.rates.map(|rates| rates.requests);
    let backends = model.view.open.as_ref().unwrap().backends.as_ref().unwrap();
    (rate(&model.view.pools[0]), rate(&backends[0]))
}

#[test]
fn rates_begin_with_the_second_look_and_what_became_of_requests_is_of_the_last_minute() {
    let mut model = model(&["a:1"]);
    assert!(model.is_stale(0) && model.missing(0) == ["asking ..."]);
    model.answered(0, 0, told(1_000, 5));
    assert_eq!(requests_of(&model), (None, None));
    model.answered(0, 2_000, told(1_020, 5));
    assert_eq!(requests_of(&model), (Some(10.0), Some(10.0)));
    assert_eq!(model.view.pools[0].rates.unwrap().failed, 1.0);
    let open = model.view.open.as_ref().unwrap();
    let outcome = Outcome { returning: 100, kept: 90, repinned: 5, spilled: 3, lost: 2 };
    assert_eq!(open.outcome, Some(outcome));
    assert_eq!(open.backends.as_ref().unwrap()[0].in_flight(), Some(3));
    assert_eq!(model.view.head, "steadfast 0.1.0, up 1m5s, generation 4, applied by 2 workers, membership from api");
    assert_eq!(model.view.problems, ["1 of 2 backends of pool shop is down"]);
}

#[test]
fn who_does_not_answer_is_told_and_the_last_figures_stay() {
    let mut model = model(&["a:1"]);
    model.failed(0, 500, "can't reach it\nat all".to_owned());
    assert_eq!(model.missing(500), ["no answer: can't reach it"]);
    model.answered(0, 1_000, told(10, 5));
    assert!(!model.is_stale(5_500) && model.missing(5_500).is_empty());
    // It was asked, and keeps silent.
    assert_eq!(
        (model.is_stale(6_500), model.missing(6_500)),
        (true, vec!["no answer since 5s: it keeps silent".to_owned()])
    );
    model.failed(0, 7_000, "it broke off".to_owned());
    assert_eq!(model.missing(7_000), ["no answer since 6s: it broke off"]);
    assert_eq!(model.view.pools[0].value["live_sessions"], 5);
    assert!(model.locked(7_000).unwrap().contains("does not answer"));
    model.answered(0, 8_000, told(10, 6));
    assert!(!model.is_stale(8_000) && model.locked(8_000).is_none());
    assert_eq!(model.view.pools[0].value["live_sessions"], 6);
}

#[test]
fn nodes_add_up_while_they_answer_and_what_differs_is_a_problem() {
    let mut model = model(&["a:1", "b:1"]);
    for (node, requests) in [(0, 100), (1, 1_000)] {
        model.answered(node, 0, told(requests, 5));
    }
    model.answered(0, 2_000, told(110, 5));
    let mut other = told(1_030, 7);
    other.open = Some(opened("draining", 1_030));
    model.answered(1, 2_000, other);
    assert_eq!(requests_of(&model), (Some(20.0), Some(20.0)));
    assert_eq!(model.view.pools[0].value["live_sessions"], 12);
    assert!(model.view.head.starts_with("steadfast 0.1.0, 2 of 2 nodes, "), "{}", model.view.head);
    assert!(model.view.head.contains("applied by 4 workers"), "{}", model.view.head);
    let differs = "a: admin state differs: active at a:1; draining at b:1".to_owned();
    assert!(model.view.problems.contains(&differs), "{:?}", model.view.problems);
    assert_eq!(model.view.open.as_ref().unwrap().outcome.unwrap().returning, 200);
    // Without the other its figures are not in the sums, and the rates are those of who is left.
    model.failed(1, 3_000, "gone".to_owned());
    model.answered(0, 4_000, told(120, 5));
    assert_eq!((requests_of(&model).0, &model.view.pools[0].value["live_sessions"]), (Some(5.0), &json!(5)));
    assert_eq!(model.missing(4_000), ["no answer from b:1 since 2s: gone"]);
}

#[test]
fn without_a_data_plane_nothing_is_known() {
    let mut model = model(&["a:1"]);
    for now in [0, 2_000] {
        let mut told = told(10, 0);
        told.status["dataplanes"] = json!([]);
        told.status["source"] = json!("file");
        model.answered(0, now, told);
    }
    assert_eq!(requests_of(&model), (None, None));
    assert_eq!(model.view.pools[0].value["live_sessions"], Value::Null);
    assert_eq!(model.view.open.as_ref().unwrap().backends.as_ref().unwrap()[0].in_flight(), None);
    assert!(model.view.head.contains("no data plane is connected"), "{}", model.view.head);
    assert!(model.locked(2_000).unwrap().contains("the configuration file decides"));
}

#[test]
fn data_planes_that_lag_or_keep_silent_are_told() {
    let mut model = model(&["a:1"]);
    let mut told = told(10, 0);
    let lagging = json!({"pid": 8, "workers": 2, "applied_generation": 3, "report_age": 9_000});
    told.status["dataplanes"] = json!([dataplane(), lagging]);
    told.status["problems"] = json!(["something is wrong"]);
    model.answered(0, 0, told);
    assert!(model.view.head.contains("applied by 2 of 4 workers"), "{}", model.view.head);
    let wanted = ["something is wrong", "the data plane with pid 8 has told nothing for 9s"];
    assert_eq!(model.view.problems[..2], wanted);
}

#[test]
fn a_pool_that_is_gone_is_no_empty_one() {
    let mut model = model(&["a:1"]);
    let open = Open { name: "shop".to_owned(), pool: None, stickiness: None };
    model.answered(0, 0, Told { status: status(json!([])), open: Some(open) });
    let open = model.view.open.as_ref().unwrap();
    assert!(open.backends.is_none() && open.outcome.is_none() && model.view.pools.is_empty());
}

#[test]
fn events_stand_with_the_last_first_whoever_told_them() {
    let mut model = model(&["a:1", "b:1"]);
    for (node, at, backend) in [(0, 1_000, "x"), (1, 3_000, "y"), (0, 2_000, "z")] {
        let data = json!({"at": at, "backend": backend, "generation": 3, "reason": null, "health": "up"});
        model.happened(node, "health", &data.to_string());
    }
    model.happened(0, "odd", "no json");
    let texts: Vec<_> = model.events.iter().map(|(at, text)| (*at, text.as_str())).collect();
    let wanted = [
        (3_000, "b:1 health backend=y health=up"),
        (2_000, "a:1 health backend=z health=up"),
        (1_000, "a:1 health backend=x health=up"),
    ];
    assert_eq!(texts, wanted);
    (0..200).for_each(|at| model.happened(0, "health", &json!({ "at": at }).to_string()));
    assert_eq!(model.events.len(), EVENTS_KEPT);
}
