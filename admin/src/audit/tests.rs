use super::*;
use crate::testing::{Folder, Rig};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn each_write_is_one_line_with_what_was_and_is_and_reads_are_none() {
    let folder = Folder::new();
    let path = folder.path().join("audit.log");
    let mut config = folder.config(&[("a", "10.0.0.1:80")]);
    config.admin.audit_log = Some(path.clone());
    let rig = Rig::start(config);
    rig.done("GET /v1/pools", "").await;
    rig.done("POST /v1/pools/shop/preview", r#"{"remove":"a"}"#).await;
    assert_eq!(lines(&path), [] as [Value; 0]);
    rig.done("PATCH /v1/pools/shop/backends/a", r#"{"weight":3}"#).await;
    rig.done("PUT /v1/pools/shop/backends/b", r#"{"address":"10.0.0.2:80"}"#).await;
    rig.done("DELETE /v1/pools/shop/backends/b", "").await;
    rig.done("PUT /v1/pools/shop/backends/a/health", r#"{"health":"down"}"#).await;
    rig.send("DELETE /v1/pools/none", &[], "").await;
    let told = lines(&path);
    let calls: Vec<_> = told.iter().map(|line| (&line["method"], &line["status"], &line["as"])).collect();
    let expected = [("PATCH", 200), ("PUT", 201), ("DELETE", 200), ("PUT", 200), ("DELETE", 404)];
    assert_eq!(
        calls,
        expected
            .map(|(method, status)| (json!(method), json!(status), json!("anybody")))
            .iter()
            .map(|(a, b, c)| (a, b, c))
            .collect::<Vec<_>>()
    );
    assert_eq!(
        told[0]["changes"],
        json!([
            { "of": { "pool": "shop", "backend": "a" }, "before": { "weight": 1 }, "after": { "weight": 3 } }
        ])
    );
    assert_eq!(
        (&told[1]["changes"][0]["before"], &told[1]["changes"][0]["after"]["address"]),
        (&json!(null), &json!("10.0.0.2:80"))
    );
    assert_eq!(
        (&told[2]["changes"][0]["after"], &told[2]["path"]),
        (&json!(null), &json!("/v1/pools/shop/backends/b"))
    );
    assert_eq!(told[3]["changes"][0]["after"], json!({ "health": "down" }));
    assert_eq!(
        (&told[4]["changes"], &told[4]["detail"]),
        (&json!([]), &json!("there is no pool `none`; the pools are `shop`"))
    );
    assert!(told[0]["generation"].is_u64() && told[0]["applied"].is_boolean(), "{}", told[0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_answer_of_whatever_length_arrives_and_its_line_has_a_bound() {
    let folder = Folder::new();
    let path = folder.path().join("audit.log");
    let mut config = folder.config(&[("a", "10.0.0.1:80")]);
    config.admin.audit_log = Some(path.clone());
    let rig = Rig::start(config);
    let backends: Vec<_> =
        (0..2_000).map(|at| json!({ "name": format!("n-{at}"), "address": "10.0.0.1:80" })).collect();
    let pool = rig.done("PUT /v1/pools/big", &json!({ "backend": backends }).to_string()).await;
    assert!(pool.to_string().len() > 1 << 20 && pool["generation"].is_u64());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.len() < 1_000, "{text}");
    assert_eq!(lines(&path)[0]["generation"], pool["generation"]);
}

#[tokio::test]
async fn secrets_are_in_no_line() {
    let folder = Folder::new();
    let path = folder.path().join("audit.log");
    let mut config = folder.config(&[("a", "10.0.0.1:80")]);
    config.admin.audit_log = Some(path.clone());
    let rig = Rig::start(config);
    let pool = r#"{"affinity":{"mode":"cookie","adopt":[{"from":"haproxy-dynamic","cookie":"SRV","key":"geheim-von-gestern"}]}}"#;
    rig.done("PUT /v1/pools/shop", pool).await;
    rig.done("POST /v1/keys/rotate", "").await;
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("(hidden)") && !text.contains("geheim"), "{text}");
    let keys = &rig.state.snapshot().desired.keys;
    assert!(keys.len() == 2 && keys.iter().all(|key| !text.contains(&key.to_base64())), "{text}");
    assert_eq!(lines(&path)[1]["changes"][0]["after"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_goes_is_made_anew_and_one_that_fails_is_counted() {
    let folder = Folder::new();
    let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let audit = Arc::new(Audit::new(Some(path.clone())));
    let begun = |audit: &Arc<Audit>| drop(audit.begin([("path".to_owned(), json!("/"))].into_iter().collect()));
    begun(&audit);
    fs::rename(&path, &moved).unwrap();
    begun(&audit);
    assert_eq!((lines(&moved).len(), path.exists()), (2, false));
    audit.reopen();
    begun(&audit);
    assert_eq!((lines(&moved).len(), lines(&path).len()), (2, 1));
    // Whoever did not wait for the answer is told as that.
    assert_eq!(lines(&path)[0]["status"], json!(null));
    let failing = Arc::new(Audit::new(Some(folder.path().join("none/audit.log"))));
    begun(&failing);
    begun(&failing);
    assert_eq!((failing.failures(), audit.failures()), (2, 0));
    fs::create_dir(folder.path().join("none")).unwrap();
    begun(&failing);
    assert_eq!((failing.failures(), lines(&folder.path().join("none/audit.log")).len()), (2, 1));
}

#[test]
fn a_line_has_a_bound() {
    use control::desired::{Desired, PoolState};
    let mut before = Snapshot::default();
    let mut pool = PoolState::default();
    pool.settings.name = "x".repeat(10_000);
    before.desired = Desired { pools: [("shop".to_owned(), pool)].into(), ..Desired::default() };
    let removes = |name: &str| Change::RemovePool { name: name.to_owned() };
    let told = changes::told(&before, &removes("shop"), LONGEST);
    assert!(told["before"]["too_long"].as_u64() > Some(10_000) && told.to_string().len() < 200, "{told}");
    let record = Arc::new(Audit::new(None)).begin(Map::new());
    for _ in 0..2 {
        let told = vec![json!(1); 50];
        record.add(Changes { told, left_off: 1 });
    }
    let changes = record.changes.lock().unwrap();
    assert_eq!((changes.told.len(), changes.left_off), (MOST, 38));
}
