//! Calls of etcd, by the JSON gateway that every release of etcd v3 serves beside its gRPC. The crates that speak gRPC need
//! `protoc` where they are built, which whoever builds this need not have.

pub(crate) use crate::call::Failure;

use super::{
    rows::shown,
    wire::{Answer, Range, RangeAnswer, Refused, Token, TxnAnswer},
};
use crate::call::{self, Trust};
use bytes::Bytes;
use control::config::Etcd;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// The longest answer of a call. Ranges are asked for in pages.
const MAX_ANSWER: usize = 64 << 20;
pub(crate) struct Client {
    settings: Etcd,
    limit: Duration,
    tls: Trust,
    token: Mutex<Option<String>>,
    /// The endpoint that is asked first.
    at: AtomicUsize,
    pub(super) failures: AtomicU64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.settings.endpoints).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(settings: Etcd) -> Self {
        let limit = settings.timeout.to_std();
        let (tls, token) = (Trust::new(settings.tls()), Mutex::default());
        Self { settings, limit, tls, token, at: AtomicUsize::new(0), failures: AtomicU64::new(0) }
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// Whether the other nodes are to know of this one.
    pub(super) const fn advertises(&self) -> bool {
        self.settings.advertise.is_some()
    }

    /// The endpoint that is asked first.
    pub(super) fn endpoint(&self) -> &str {
        &self.settings.endpoints[self.at.load(Relaxed) % self.settings.endpoints.len()]
    }

    /// Has another endpoint asked first.
    pub(super) fn turn(&self) {
        self.at.fetch_add(1, Relaxed);
    }

    /// Asks every endpoint in turn until one answers: it changes nothing, so it may be asked again.
    ///
    /// # Errors
    /// What the last one failed with.
    pub(super) async fn range(&self, range: &Range) -> Result<RangeAnswer, Failure> {
        let mut failure = None;
        for _ in &self.settings.endpoints {
            match self.call("/v3/kv/range", range).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    self.turn();
                    failure = Some(failed);
                }
            }
        }
        Err(failure.expect("there is at least one endpoint"))
    }

    /// Carries out a transaction, or says that what it compares is otherwise. Another endpoint is asked only where nothing
    /// was sent to the one before.
    ///
    /// # Errors
    /// Why it is not known to be carried out.
    pub(super) async fn txn(&self, txn: &impl Serialize) -> Result<TxnAnswer, Failure> {
        let mut failure = None;
        for _ in &self.settings.endpoints {
            match self.call("/v3/kv/txn", txn).await {
                Err(failed) => {
                    self.turn();
                    if !matches!(failed, Failure::NotSent(_)) {
                        return Err(failed);
                    }
                    failure = Some(failed);
                }
                answer => return answer,
            }
        }
        Err(failure.expect("there is at least one endpoint"))
    }

    /// Begins to watch. What comes is a JSON object per line.
    ///
    /// # Errors
    /// Why it can't begin.
    pub(super) async fn watch(&self, create: &impl Serialize) -> Result<Incoming, Failure> {
        let body = to_body(create);
        let begun = timeout(self.limit, self.send("/v3/watch", body)).await;
        let (status, body) = begun.map_err(|_| self.late())??;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = timeout(self.limit, whole(body)).await.map_err(|_| self.late())??;
        Err(refusal(status, &text).0)
    }

    async fn call<T: DeserializeOwned>(&self, path: &str, question: &impl Serialize) -> Result<T, Failure> {
        let answered = self.authorized(path, &to_body(question)).await;
        if answered.is_err() {
            self.failures.fetch_add(1, Relaxed);
        }
        let text = answered?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::Unknown(format!("{}: no answer of etcd: {error}", self.endpoint())))
    }

    /// Asks, and once more with a new token where etcd does not take the one that there is.
    async fn authorized(&self, path: &str, body: &Bytes) -> Result<Bytes, Failure> {
        let mut again = self.settings.user.is_some();
        loop {
            if self.settings.user.is_some() && self.token().is_none() {
                self.authenticate().await?;
            }
            let exchange = async {
                let (status, answer) = self.send(path, body.clone()).await?;
                Ok((status, whole(answer).await?))
            };
            let (status, text) = timeout(self.limit, exchange).await.map_err(|_| self.late())??;
            if status == StatusCode::OK {
                return Ok(text);
            }
            let (failure, stale) = refusal(status, &text);
            if !(stale && std::mem::take(&mut again)) {
                return Err(failure);
            }
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells etcd who this is. The password is read anew, so that it may be changed while this runs.
    async fn authenticate(&self) -> Result<(), Failure> {
        let (Some(user), Some(file)) = (&self.settings.user, &self.settings.password_file) else { return Ok(()) };
        let (name, path) = (user.clone(), file.clone());
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await;
        let password = read.map_err(|_| Failure::NotSent("this process stops".to_owned()))?;
        let password = password.map_err(|error| Failure::NotSent(format!("{}: {error}", file.display())))?;
        let question =
            to_body(&serde_json::json!({ "name": name, "password": password.trim_end_matches(['\r', '\n']) }));
        let exchange = async {
            let (status, answer) = self.send("/v3/auth/authenticate", question).await?;
            Ok((status, whole(answer).await?))
        };
        let (status, text) = timeout(self.limit, exchange).await.map_err(|_| self.late())??;
        let not_sent = |failure: Failure| Failure::NotSent(format!("user `{name}`: {failure}"));
        let token = match status {
            StatusCode::OK => serde_json::from_slice::<Token>(&text).map(|answer| answer.token).unwrap_or_default(),
            // Who needs no password gets no token.
            _ if String::from_utf8_lossy(&text).contains("authentication is not enabled") => String::new(),
            status => return Err(not_sent(refusal(status, &text).0)),
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    fn late(&self) -> Failure {
        Failure::Unknown(format!("{}: no answer within {}", self.endpoint(), self.settings.timeout))
    }

    /// Sends one request over a connection of its own.
    async fn send(&self, path: &str, body: Bytes) -> Result<(StatusCode, Incoming), Failure> {
        let endpoint = self.endpoint().to_owned();
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, path.parse().expect("is a path"));
        let token = self.token().filter(|token| !token.is_empty());
        let fields = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            // A member that has lost the others ends its watches rather than stand still.
            (header::HeaderName::from_static("grpc-metadata-hasleader"), "true".to_owned()),
        ];
        for (name, value) in fields.into_iter().chain(token.map(|token| (header::AUTHORIZATION, token))) {
            let value = value.parse().map_err(|error| Failure::NotSent(format!("{endpoint}: {error}")))?;
            request.headers_mut().insert(name, value);
        }
        call::send(&endpoint, &self.tls, request).await
    }
}

fn to_body(question: &impl Serialize) -> Bytes {
    serde_json::to_vec(question).expect("questions have string keys and no failing parts").into()
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    call::whole(body, MAX_ANSWER).await
}

/// Why etcd refused, and whether that was for its token alone.
fn refusal(status: StatusCode, text: &[u8]) -> (Failure, bool) {
    let Refused { message, code } = serde_json::from_slice(text).unwrap_or_default();
    let said = message.trim_start_matches("etcdserver: ");
    let stale = code == Refused::UNAUTHENTICATED || said.contains("auth token") || said.contains("auth store is old");
    let text = String::from_utf8_lossy(text);
    let mend = match () {
        () if text.contains("CommonName of client") => ": cert_file has to be one without a common name",
        () if said.contains("permission denied") || said.contains("user name is empty") => {
            ": set user and password_file of [membership.etcd], and grant that user read and write of the prefix"
        }
        () if said.contains("request is too large") => ": raise etcd's --max-request-bytes",
        () if said.contains("too many operations") => ": raise etcd's --max-txn-ops",
        () => "",
    };
    let reason = match said {
        "" => format!("etcd answers {status}: {}{mend}", shown(text.trim())),
        said => format!("etcd says \"{said}\"{mend}"),
    };
    // Of these it is not known whether the cluster has carried it out.
    let unknown = status == StatusCode::GATEWAY_TIMEOUT || status == StatusCode::SERVICE_UNAVAILABLE;
    (if unknown { Failure::Unknown(reason) } else { Failure::Refused(reason) }, stale)
}

/// The one answer in a line of a watch.
pub(super) fn line<T: DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    let answer: Answer<T> =
        serde_json::from_slice(line).map_err(|error| Failure::Unknown(format!("no answer of etcd: {error}")))?;
    match answer {
        Answer { result: Some(result), .. } => Ok(result),
        Answer { error, .. } => Err(Failure::Refused(format!("etcd says \"{}\"", error.unwrap_or_default()))),
    }
}
