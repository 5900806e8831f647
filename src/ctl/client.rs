//! As much of an HTTP client as the admin API needs, over TCP and Unix sockets.

use crate::failure::Failure;
use control::spec::PoolTls;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most of an answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub(super) struct Client {
    at: At,
    token: Option<String>,
}

#[derive(Clone, Debug)]
enum At {
    Tcp(String),
    /// With what its certificate is judged by.
    Tls(String, Arc<ClientConfig>),
    Unix(PathBuf),
}

/// What a request carries beyond its method and path.
#[derive(Clone, Copy, Debug, Default)]
struct Sent<'a> {
    body: Option<&'a Value>,
    /// The last event that was seen.
    last: Option<&'a str>,
    /// The tag that it must still have.
    tag: Option<&'a str>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    tag: Option<String>,
    text: String,
}

impl Answer {
    /// What a success says, else why there is none.
    fn done(self) -> Result<Value, Failure> {
        let answer = serde_json::from_str(&self.text).unwrap_or(Value::Null);
        if (200..300).contains(&self.status) { Ok(answer) } else { Err(refusal(self.status, &answer, &self.text)) }
    }
}

/// What stands before the body of an answer, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    tag: Option<String>,
}

/// How long the answer may keep silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

impl Client {
    /// `address` is `address:port`, with `http://` before it or not, `unix:PATH`, or with `trust` `https://host:port`.
    pub(super) fn new(address: &str, token: Option<String>, trust: Option<&Arc<ClientConfig>>) -> Self {
        let host = |address: &str| address.trim_end_matches('/').to_owned();
        let at = match (address.strip_prefix("unix:"), address.strip_prefix("https://"), trust) {
            (Some(path), ..) => At::Unix(path.into()),
            (None, Some(address), Some(trust)) => At::Tls(host(address), Arc::clone(trust)),
            (None, ..) => At::Tcp(host(address.trim_start_matches("http://"))),
        };
        Self { at, token }
    }

    /// # Errors
    /// The admin process can't be reached, or it refused: then what it said.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, Failure> {
        self.ask(method, path, Sent { body, ..Sent::default() }, patience)?.done()
    }

    /// The same for what must still be what it was when it had this tag.
    pub(super) fn call_if(
        &self,
        tag: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, Failure> {
        self.ask(method, path, Sent { body, tag, ..Sent::default() }, patience)?.done()
    }

    /// What is at `path`; `None` where nothing is.
    pub(super) fn find(&self, path: &str, patience: Duration) -> Result<Option<Value>, Failure> {
        let answer = self.ask("GET", path, Sent::default(), patience)?;
        if answer.status == 404 { Ok(None) } else { answer.done().map(Some) }
    }

    /// The tag of what is at `path`.
    pub(super) fn tag(&self, path: &str, patience: Duration) -> Result<Option<String>, Failure> {
        let mut answer = self.ask("GET", path, Sent::default(), patience)?;
        let tag = answer.tag.take();
        answer.done().map(|_| tag)
    }

    fn ask(&self, method: &str, path: &str, sent: Sent<'_>, patience: Duration) -> Result<Answer, Failure> {
        let (Head { status, tag }, reader) = self.send(method, path, sent, Some(patience))?;
        let mut text = String::new();
        reader.take(MAX_ANSWER).read_to_string(&mut text).map_err(|error| self.broken(&error))?;
        Ok(Answer { status, tag, text })
    }

    /// The lines of an answer that goes on until either side ends it; of events, those after the `last`.
    pub(super) fn follow(
        &self,
        path: &str,
        last: Option<&str>,
    ) -> Result<impl Iterator<Item = io::Result<String>> + use<>, Failure> {
        let (Head { status, .. }, mut reader) = self.send("GET", path, Sent { last, ..Sent::default() }, None)?;
        if status != 200 {
            let mut text = String::new();
            reader.by_ref().take(MAX_ANSWER).read_to_string(&mut text).map_err(|error| self.broken(&error))?;
            return Err(refusal(status, &serde_json::from_str(&text).unwrap_or(Value::Null), &text));
        }
        Ok(reader.lines())
    }

    /// Speaks HTTP/1.0: the answer ends with the connection, and there is no framing to take apart.
    fn send(
        &self,
        method: &str,
        path: &str,
        Sent { body, last, tag }: Sent<'_>,
        patience: Option<Duration>,
    ) -> Result<(Head, BufReader<Box<dyn Read>>), Failure> {
        let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n", self.host());
        if let Some(token) = &self.token {
            write!(text, "Authorization: Bearer {token}\r\n").expect("a String takes all");
        }
        for (field, value) in [("Last-Event-ID", last), ("If-Match", tag)] {
            if let Some(value) = value {
                write!(text, "{field}: {value}\r\n").expect("a String takes all");
            }
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text.push_str("Content-Type: application/json\r\n");
        }
        if method != "GET" {
            write!(text, "Content-Length: {}\r\n", body.len()).expect("a String takes all");
        }
        text.push_str("\r\n");
        text.push_str(&body);
        let stream = self.connect(&text, patience).map_err(|error| {
            let hint = "is Steadfast running, and is --admin (or STEADFAST_ADMIN) where it listens?";
            Failure::general(format!("can't reach the admin API at {self}: {error}; {hint}"))
        })?;
        let mut reader = BufReader::new(stream);
        let head = read_head(&mut reader).map_err(|error| self.broken(&error))?;
        Ok((head, reader))
    }

    fn connect(&self, request: &str, patience: Option<Duration>) -> io::Result<Box<dyn Read>> {
        match &self.at {
            At::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.write_all(request.as_bytes())?;
                Ok(Box::new(stream))
            }
            At::Tcp(address) => {
                let mut stream = tcp(address, patience)?;
                stream.write_all(request.as_bytes())?;
                Ok(Box::new(stream))
            }
            At::Tls(address, config) => {
                let name = ServerName::try_from(PoolTls::default().name_for(address).to_owned());
                let session = ClientConnection::new(Arc::clone(config), name.map_err(io::Error::other)?);
                let stream = tcp(address, patience)?;
                let mut stream = StreamOwned::new(session.map_err(io::Error::other)?, stream);
                stream.write_all(request.as_bytes())?;
                Ok(Box::new(stream))
            }
        }
    }

    fn host(&self) -> &str {
        match &self.at {
            At::Tcp(address) | At::Tls(address, _) => address,
            At::Unix(_) => "localhost",
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            Failure::general(format!("the admin API at {self} did not answer in time"))
        } else {
            Failure::general(format!("the admin API at {self} broke off its answer: {error}"))
        }
    }
}

fn tcp(address: &str, patience: Option<Duration>) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(patience)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.at {
            At::Tcp(address) => f.write_str(address),
            At::Tls(address, _) => write!(f, "https://{address}"),
            At::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads up to the body.
fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok());
    let mut head = Head { status: status.ok_or_else(|| io::Error::other("it does not speak HTTP"))?, tag: None };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("etag") => head.tag = Some(value.trim().to_owned()),
            None if line.trim_end().is_empty() => return Ok(head),
            Some(_) | None => {}
        }
    }
}

/// A problem of RFC 9457 as lines; anything else as it came.
fn refusal(status: u16, answer: &Value, text: &str) -> Failure {
    let field = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let detail = field(answer, "detail").or_else(|| field(answer, "title"));
    let detail = detail.unwrap_or_else(|| text.trim().to_owned());
    let errors: Vec<_> = answer["errors"].as_array().into_iter().flatten().map(told).collect();
    let lines = match errors.as_slice() {
        // The detail says the one that there is, without what would be right.
        [one] if one.starts_with(&detail) => one.clone(),
        errors => errors.iter().fold(detail, |text, error| text + "\n  " + error),
    };
    Failure::general(format!("refused with {status}: {lines}"))
}

/// What is wrong with one field: where, what, and what would be right.
fn told(error: &Value) -> String {
    let part = |key: &str| error[key].as_str().filter(|part| !part.is_empty());
    let parts: Vec<_> = [part("detail"), part("right")].into_iter().flatten().collect();
    let at = part("pointer").or_else(|| part("parameter")).map(|at| format!("{at}: ")).unwrap_or_default();
    at + &parts.join("; ")
}

/// One segment of a path, with what has a meaning there encoded.
pub(super) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            byte => write!(encoded, "%{byte:02X}").expect("a String takes all"),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_is_told_with_each_field() {
        let problem = json!({
            "title": "Bad Request", "status": 422, "detail": "the backend can't be used",
            "errors": [{"pointer": "/address", "detail": "is missing", "right": "write \"host:port\""}, {"parameter": "timeout", "detail": "x"}],
        });
        let failure = refusal(422, &problem, "");
        let text =
            "refused with 422: the backend can't be used\n  /address: is missing; write \"host:port\"\n  timeout: x";
        assert_eq!(failure.to_string(), text);
        assert_eq!(refusal(502, &Value::Null, "no\n").to_string(), "refused with 502: no");
    }

    #[test]
    fn what_is_wrong_with_one_field_is_told_once() {
        let one = json!({
            "detail": "/weight: 5000 is out of range",
            "errors": [{"pointer": "/weight", "detail": "5000 is out of range", "right": "write 0 to 1000"}],
        });
        let text = "refused with 422: /weight: 5000 is out of range; write 0 to 1000";
        assert_eq!(refusal(422, &one, "").to_string(), text);
        let apart = json!({ "detail": "it is not there", "errors": [{"pointer": "/a", "detail": "b", "right": ""}] });
        assert_eq!(refusal(404, &apart, "").to_string(), "refused with 404: it is not there\n  /a: b");
    }

    #[test]
    fn names_can_not_leave_their_segment() {
        assert_eq!(segment("a-b_c.d~1"), "a-b_c.d~1");
        assert_eq!(segment("a/../b?c d"), "a%2F..%2Fb%3Fc%20d");
    }

    #[test]
    fn a_head_is_skipped_up_to_the_body() {
        let mut answer = "HTTP/1.1 204 No Content\r\nA: b\r\netag: \"c:d\"\r\n\r\nrest".as_bytes();
        let head = Head { status: 204, tag: Some("\"c:d\"".to_owned()) };
        assert_eq!((read_head(&mut answer).unwrap(), answer), (head, "rest".as_bytes()));
        for wrong in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b"] {
            assert!(read_head(&mut wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
