//! Who is let in.

mod tries;

use super::{App, problem::Problem};
use crate::{caller::Caller, clock, error::Error, events::Kind, keys::read_private};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Version, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use serde_json::json;
use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, RwLock},
};
use subtle::ConstantTimeEq;
use tries::{Answer, Tries};

/// How a node says who it is, in `Authorization`: `Node SECONDS:PROOF`.
const NODE: &str = "Node";
/// The end of the path that a proof opens.
pub(super) const PARTS: &str = "/stickiness/parts";
/// For how many seconds a proof holds, and by how many the clocks of nodes may differ.
const PROOF_HOLDS: u64 = 120;

const MIN_TOKEN: usize = 16;
const MAX_TOKEN_FILE: u64 = 16 << 10;

/// A bearer token, kept as its hash alone, so that every comparison takes the same time whatever is sent.
#[derive(Clone)]
pub(crate) struct Token(blake3::Hash);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = read_private(path, MAX_TOKEN_FILE)?;
        let token = text.trim();
        let refused = |reason: String| Err(Error::Refused { path: path.to_owned(), reason });
        if token.len() < MIN_TOKEN {
            return refused(format!("the token has {} characters: write at least {MIN_TOKEN}", token.len()));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(
                "the token has spaces or other characters that can't be sent: write one line of letters and digits"
                    .to_owned(),
            );
        }
        Ok(Self::new(token))
    }

    pub(crate) fn new(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// What proves at `at`, in Unix seconds, that a call of this path comes from one who has the token.
    fn proof(&self, path: &str, at: u64) -> blake3::Hash {
        let key = blake3::derive_key("steadfast 2026 a node asks another", self.0.as_bytes());
        blake3::keyed_hash(&key, format!("{at} {path}").as_bytes())
    }

    fn is(&self, sent: &str) -> bool {
        self.0.as_bytes().ct_eq(blake3::hash(sent.as_bytes()).as_bytes()).into()
    }
}

/// What a request must show, by where it came in.
#[derive(Debug)]
pub(crate) struct Guard {
    token: RwLock<Option<Token>>,
    /// A loopback address without a token: any program of this machine gets in, and no web page must.
    local: bool,
    tries: Mutex<Tries>,
}

/// How a request is turned away.
#[derive(Debug)]
struct Denied {
    problem: Problem,
    /// So many wrong tokens in a row have come from there, which now has to wait.
    waits: Option<u32>,
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self { problem, waits: None }
    }
}

/// What a request shows of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Right,
    Wrong,
    Nothing,
}

impl Guard {
    /// `loopback` is whether the listener is a loopback address; a Unix socket is none.
    pub(crate) fn new(token: Option<Token>, loopback: bool) -> Self {
        Self { local: loopback && token.is_none(), token: RwLock::new(token), tries: Mutex::default() }
    }

    /// Takes another token from now on, where there was one.
    pub(crate) fn renew(&self, token: Token) {
        *self.token.write().expect("nothing panics while holding it") = Some(token);
    }

    pub(crate) fn wants_token(&self) -> bool {
        self.token.read().expect("nothing panics while holding it").is_some()
    }

    /// What this node shows another that it asks for its part, in `Authorization`; none without a token. Not the token itself:
    /// whoever may write to etcd says where the others are, and it must not be sent wherever somebody wants it. `now` is in
    /// Unix seconds.
    pub(crate) fn proof(&self, path: &str, now: u64) -> Option<String> {
        let token = self.token.read().expect("nothing panics while holding it");
        token.as_ref().map(|token| format!("{NODE} {now}:{}", token.proof(path, now).to_hex()))
    }

    /// What everybody has to keep to, with a token or without.
    fn admit_stranger(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let hosts = headers.get_all(header::HOST).iter().count();
        if hosts > 1 || (host.is_none() && request.version() == Version::HTTP_11) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "no-host", "Which host?", "a request has one Host"));
        }
        if self.local && host.is_some_and(|host| !is_loopback(host)) {
            let detail =
                "without a token only localhost and loopback addresses are served: set admin.token_file for others";
            return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", "This host name is not served", detail));
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if changes && is_cross_site(headers, host) {
            let detail = "web pages of other sites may not change anything here";
            return Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", "Another site asks", detail));
        }
        Ok(())
    }

    /// `now` is in milliseconds by a clock that only goes forward.
    fn admit(&self, request: &Request, now: u64) -> Result<(), Denied> {
        self.admit_stranger(request)?;
        let token = self.token.read().expect("nothing panics while holding it");
        let Some(token) = &*token else { return Ok(()) };
        let party = caller(request).party();
        let mut tries = self.tries.lock().expect("nothing panics while holding it");
        let answer = match shown(request, token) {
            Shown::Right => {
                tries.right(party);
                return Ok(());
            }
            // Nobody guesses by that.
            Shown::Nothing => Answer::Wrong,
            Shown::Wrong => tries.wrong(party, now),
        };
        Err(match answer {
            Answer::Wrong => {
                let detail = "send `Authorization: Bearer TOKEN` with the token in admin.token_file";
                Problem::new(StatusCode::UNAUTHORIZED, "no-token", "A token is needed", detail).into()
            }
            Answer::Wait { seconds, begins } => {
                let detail = format!(
                    "too many wrong tokens have come from here: the next is looked at in {seconds} s; the right one at any time"
                );
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "wrong-tokens", "Wrong tokens", detail);
                Denied { problem: problem.retry_after(seconds), waits: begins }
            }
        })
    }

    /// Wrong tokens that were answered as such, and those that were told to wait.
    pub(crate) fn wrong_tokens(&self) -> (u64, u64) {
        let tries = self.tries.lock().expect("nothing panics while holding it");
        (tries.wrong, tries.throttled)
    }
}

/// Who is at the other end of the connection that a request came over.
pub(crate) fn caller(request: &Request) -> Caller {
    request.extensions().get().copied().unwrap_or(Caller::Unknown)
}

/// A layer before what holds no data, as the dashboard's files: whoever asks for them has no token yet.
pub(crate) async fn stranger(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    guard.admit_stranger(&request)?;
    Ok(next.run(request).await)
}

/// A layer before everything else but the probes.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Problem> {
    if let Err(Denied { problem, waits }) = app.guard.admit(&request, app.state.clock.millis()) {
        if let Some(in_a_row) = waits {
            let from = caller(&request).to_string();
            tracing::warn!(from, in_a_row, "wrong tokens: more from there are told to wait");
            app.state.events.emit(Kind::WrongTokens, &json!({ "from": from, "in_a_row": in_a_row }));
        }
        return Err(problem);
    }
    Ok(next.run(request).await)
}

/// Whether the token is shown, or proven where that will do.
fn shown(request: &Request, token: &Token) -> Shown {
    let sent = |scheme| authorization(request.headers(), scheme);
    let is_right = match (sent("bearer"), sent(NODE)) {
        (Some(sent), _) => token.is(sent),
        (None, Some(sent)) => proves(request, token, sent),
        (None, None) => return Shown::Nothing,
    };
    if is_right { Shown::Right } else { Shown::Wrong }
}

fn authorization<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let (scheme, shown) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| shown.trim())
}

/// Whether a proof is of the token, of this call and of now. It opens what nodes ask each other for, and nothing else.
fn proves(request: &Request, token: &Token, sent: &str) -> bool {
    let path = request.uri().path();
    let asks = *request.method() == Method::GET && path.starts_with("/v1/pools/") && path.ends_with(PARTS);
    let Some((at, proof)) = sent.split_once(':').and_then(|(at, proof)| Some((at.parse::<u64>().ok()?, proof))) else {
        return false;
    };
    let timely = at.abs_diff(clock::unix_millis() / 1_000) <= PROOF_HOLDS;
    // Hashes are compared in the same time whatever they are.
    asks && timely && blake3::Hash::from_hex(proof).is_ok_and(|proof| proof == token.proof(path, at))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// Browsers say where a request comes from, in fields that a page can't forge.
fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let origin = text("origin").is_some_and(|origin| {
        let from = origin.split_once("://").map(|(_, from)| from);
        from.is_none() || from.map(str::to_ascii_lowercase) != host.map(str::to_ascii_lowercase)
    });
    site || origin
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use std::{fs, os::unix::fs::PermissionsExt};

    const SECRET: &str = "0123456789abcdef";

    fn status(guard: &Guard, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/v1/pools");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        use axum::response::IntoResponse;
        let request = request.body(Body::empty()).unwrap();
        guard.admit(&request, 0).map_or_else(|denied| denied.problem.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn only_loopback_names_without_a_token() {
        let guard = Guard::new(None, true);
        for (host, expected) in [
            ("localhost:9090", 200),
            ("LOCALHOST", 200),
            ("steadfast.localhost:1", 200),
            ("127.0.0.1:9090", 200),
            ("127.9.9.9", 200),
            ("[::1]:9090", 200),
            ("evil.example.com", 403),
            ("localhost.example.com", 403),
            ("10.0.0.1:9090", 403),
            ("user@localhost", 200),
            ("", 403),
        ] {
            assert_eq!(status(&guard, "GET", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&guard, "GET", &[]), 400);
        assert_eq!(status(&Guard::new(None, false), "GET", &[("host", "anything")]), 200, "a Unix socket");
    }

    #[test]
    fn strangers_need_no_token_and_keep_to_all_else() {
        let stranger = |guard: &Guard, host: &str| {
            let request = Request::get("/").header("host", host).body(Body::empty()).unwrap();
            guard.admit_stranger(&request).is_ok()
        };
        assert!(stranger(&Guard::new(Some(Token::new(SECRET)), true), "lb.example.com"));
        assert!(stranger(&Guard::new(None, true), "localhost"));
        assert!(!stranger(&Guard::new(None, true), "evil.example.com"));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let guard = Guard::new(None, true);
        let host = ("host", "localhost:9090");
        for (method, field, expected) in [
            ("POST", ("sec-fetch-site", "cross-site"), 403),
            ("POST", ("sec-fetch-site", "same-site"), 403),
            ("POST", ("sec-fetch-site", "same-origin"), 200),
            ("POST", ("sec-fetch-site", "none"), 200),
            ("DELETE", ("origin", "http://evil.example.com"), 403),
            ("PUT", ("origin", "null"), 403),
            ("PUT", ("origin", "http://localhost:9091"), 403),
            ("PUT", ("origin", "http://localhost:9090"), 200),
            ("GET", ("origin", "http://evil.example.com"), 200),
        ] {
            assert_eq!(status(&guard, method, &[host, field]), expected, "{method} {field:?}");
        }
    }

    #[test]
    fn a_token_must_be_the_one() {
        let guard = Guard::new(Some(Token::new(SECRET)), true);
        let host = ("host", "lb.example.com");
        for (value, expected) in [
            ("Bearer 0123456789abcdef", 200),
            ("bearer 0123456789abcdef", 200),
            ("Bearer 0123456789abcdeg", 401),
            ("Bearer 0123456789abcde", 401),
            ("Bearer ", 401),
            ("Basic 0123456789abcdef", 401),
            ("0123456789abcdef", 401),
        ] {
            assert_eq!(status(&guard, "GET", &[host, ("authorization", value)]), expected, "{value}");
        }
        assert_eq!(status(&guard, "GET", &[host]), 401);
        guard.renew(Token::new("another secret"));
        assert_eq!(status(&guard, "GET", &[host, ("authorization", "Bearer 0123456789abcdef")]), 401);
    }

    #[test]
    fn wrong_ones_in_a_row_have_to_wait_and_the_right_one_never() {
        let guard = Guard::new(Some(Token::new(SECRET)), true);
        let answer = |from: &str, token: &str, now| {
            let mut request = Request::get("/v1/pools").header("host", "lb");
            if !token.is_empty() {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(Caller::Address(from.parse().unwrap()));
            use axum::response::IntoResponse;
            guard.admit(&request, now).map_or_else(
                |denied| {
                    let response = denied.problem.into_response();
                    let wait = response.headers().get(header::RETRY_AFTER);
                    (response.status().as_u16(), wait.map(|wait| wait.to_str().unwrap().to_owned()))
                },
                |()| (200, None),
            )
        };
        let wait = |seconds: &str| (429, Some(seconds.to_owned()));
        for _ in 0..10 {
            assert_eq!(answer("10.0.0.1:1", "wrong", 0), (401, None));
        }
        assert_eq!(answer("10.0.0.1:2", "wrong", 0), wait("1"));
        assert_eq!(answer("10.0.0.2:1", "wrong", 0), (401, None), "another address");
        assert_eq!(answer("10.0.0.1:1", "", 0), (401, None), "what guesses nothing");
        assert_eq!(answer("10.0.0.1:3", "wrong", 1_000), wait("2"));
        assert_eq!(guard.wrong_tokens(), (11, 2));
        assert_eq!(answer("10.0.0.1:4", SECRET, 1_000), (200, None), "its neighbour has the right one");
        assert_eq!(answer("10.0.0.1:5", "wrong", 1_000), (401, None));
    }

    #[test]
    fn a_proof_opens_what_it_is_of_for_a_while_and_nothing_else() {
        let (guard, now) = (Guard::new(Some(Token::new(SECRET)), true), clock::unix_millis() / 1_000);
        let other = Guard::new(Some(Token::new("fedcba9876543210")), true);
        let path = "/v1/pools/shop/stickiness/parts";
        let admits = |method: &str, at: &str, proof: String| {
            let request = Request::builder().method(method).uri(at).header("host", "lb").header("authorization", proof);
            guard.admit(&request.body(Body::empty()).unwrap(), 0).is_ok()
        };
        let proof = |by: &Guard, of: &str, at: u64| by.proof(of, at).unwrap();
        for (method, at, proof, admitted) in [
            ("GET", path, proof(&guard, path, now), true),
            ("GET", path, proof(&guard, path, now - 100), true),
            ("GET", path, proof(&guard, path, now + 100), true),
            ("GET", path, proof(&guard, path, now - 200), false),
            ("GET", path, proof(&guard, path, now + 200), false),
            ("GET", path, proof(&other, path, now), false),
            ("GET", "/v1/pools/cart/stickiness/parts", proof(&guard, path, now), false),
            ("POST", path, proof(&guard, path, now), false),
            ("GET", "/v1/pools", proof(&guard, "/v1/pools", now), false),
            ("GET", path, proof(&guard, path, now).replacen(&now.to_string(), &(now + 1).to_string(), 1), false),
            ("GET", path, format!("Node {now}:"), false),
            ("GET", path, "Node x:y".to_owned(), false),
            ("GET", path, format!("Node {SECRET}"), false),
        ] {
            assert_eq!(admits(method, at, proof.clone()), admitted, "{method} {at} {proof}");
        }
        assert!(!proof(&guard, path, now).contains(SECRET));
        assert_eq!(Guard::new(None, true).proof(path, now), None);
    }

    #[test]
    fn refuses_token_files_that_keep_no_secret() {
        let folder = crate::testing::Folder::new();
        let path = folder.path().join("token");
        for (text, mode, wrong) in [
            ("0123456789abcdef\n", 0o600, None),
            ("0123456789abcdef\n", 0o400, None),
            ("0123456789abcdef\n", 0o644, Some("chmod 600")),
            ("0123456789abcdef\n", 0o620, Some("chmod 600")),
            ("short\n", 0o600, Some("at least 16")),
            ("\n", 0o600, Some("at least 16")),
            ("0123456789 abcdef\n", 0o600, Some("one line")),
        ] {
            drop(fs::remove_file(&path));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match (Token::load(&path), wrong) {
                (Ok(token), None) => assert!(token.is(SECRET)),
                (Err(error), Some(wrong)) => assert!(error.to_string().contains(wrong), "{error}"),
                (loaded, wrong) => panic!("{loaded:?} {wrong:?}"),
            }
        }
    }
}
