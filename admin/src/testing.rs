//! What several tests need.

use crate::{
    rest::{App, guard::Guard, router},
    state::State,
    supervisor::Supervisor,
};
use axum::{Router, body::Body, http::Request};
use control::{
    Problem,
    config::{Config, Global, Membership, Source},
    spec::{Backend, Check, HealthCheck, Listener, Pool},
    status::Sandbox,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tower::ServiceExt;

/// A folder of its own, gone with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("steadfast-admin-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A configuration whose files are here, with one listener that leads to one pool `shop`.
    pub(crate) fn config(&self, backends: &[(&str, &str)]) -> Config {
        let global = Global { state_dir: self.0.join("state"), runtime_dir: self.0.join("run"), ..Global::default() };
        let listener = Listener {
            name: "web".into(),
            bind: "127.0.0.1:8080".into(),
            pool: Some("shop".into()),
            ..Listener::default()
        };
        Config { global, listeners: vec![listener], pools: vec![pool("shop", backends)], ..Config::default() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A pool that is not checked.
pub(crate) fn pool(name: &str, backends: &[(&str, &str)]) -> Pool {
    let backend = |(name, address): &(&str, &str)| Backend {
        name: (*name).to_owned(),
        address: (*address).to_owned(),
        ..Backend::default()
    };
    let health = HealthCheck { check: Check::Off, ..HealthCheck::default() };
    Pool { name: name.to_owned(), health, backends: backends.iter().map(backend).collect(), ..Pool::default() }
}

pub(crate) fn from_file(config: Config) -> Config {
    Config { membership: Membership { source: Source::File, etcd: None }, ..config }
}

type File = Arc<Mutex<Result<Config, Vec<Problem>>>>;

/// An admin process without sockets.
pub(crate) struct Rig {
    pub(crate) state: Arc<State>,
    pub(crate) router: Router,
    /// What a reload reads.
    pub(crate) file: File,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Rig {
    pub(crate) fn start(config: Config) -> Self {
        let state = State::start(config.clone()).unwrap();
        let file: File = Arc::new(Mutex::new(Ok(config)));
        let read = Arc::clone(&file);
        let load = Arc::new(move || read.lock().unwrap().clone());
        let supervisor = Supervisor::new(None, "processes.json".into());
        let app =
            App::new(Arc::clone(&state), Guard::new(None, true), load, supervisor, ("0.0.0-test", Sandbox::default()));
        Self { state, router: router(app), file }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.state.view().snapshot.generation
    }

    /// Sends a request with more headers than a body needs.
    pub(crate) async fn send(&self, call: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (method, uri) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, body, text }
    }

    pub(crate) async fn call(&self, call: &str, body: &str) -> Answer {
        self.send(call, &[], body).await
    }

    /// As [`Self::call`], for what must succeed.
    pub(crate) async fn done(&self, call: &str, body: &str) -> Value {
        let answer = self.call(call, body).await;
        assert!(matches!(answer.status, 200 | 201), "{call}: {} {}", answer.status, answer.text);
        answer.body
    }
}
