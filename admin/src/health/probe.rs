use super::{board::Probing, http2, trusts::Trusts};
use control::Endpoint;
use control::spec::{Check, HealthCheck, PoolTls};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, pki_types::ServerName},
};

/// A response's head that is longer than this is no answer to a check.
const MAX_HEAD: usize = 16 << 10;

/// The longest name of an instance that is told apart, in bytes; what is longer is cut.
const MAX_INSTANCE: usize = 256;

/// One check of a backend; the instance that it names, where it is asked for that. `address` is its address as configured, which an `http` check names unless it is told another.
///
/// # Errors
/// What is wrong with the backend, in a few words.
pub(super) async fn check(
    target: Option<Endpoint>,
    address: &str,
    settings: &Probing,
    trusts: &Trusts,
) -> Result<Option<String>, Arc<str>> {
    let Probing { health, tls, http2, send_proxy } = settings;
    let http2 = *http2 || health.check == Check::Grpc;
    let Some(target) = target else { return Err(Arc::from("its name does not resolve")) };
    let probe = async {
        let mut stream = connect(&target).await.map_err(|error| reason(&error))?;
        if let Some(version) = send_proxy {
            stream.write_all(version.of_nobody()).await.map_err(|error| reason(&error))?;
        }
        match tls {
            None => asked(stream, address, health, http2.then_some("http")).await,
            Some(tls) => {
                let stream = secure(stream, address, tls, trusts.of(tls, http2)?).await?;
                asked(stream, address, health, http2.then_some("https")).await
            }
        }
    };
    match timeout(health.timeout.to_std(), probe).await {
        Ok(outcome) => outcome.map_err(Arc::from),
        Err(_) => Err(format!("no answer within {}", health.timeout).into()),
    }
}

/// A connection of either family.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

async fn connect(target: &Endpoint) -> io::Result<Box<dyn Duplex>> {
    Ok(match target {
        Endpoint::Inet(address) => Box::new(TcpStream::connect(address).await?),
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path.to_path()).await?),
    })
}

/// `http2` is the scheme by which it is asked over HTTP/2, where it is.
async fn asked<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    address: &str,
    settings: &HealthCheck,
    http2: Option<&str>,
) -> Result<Option<String>, String> {
    let told = if Endpoint::is_unix(address) { "localhost" } else { address };
    let host = settings.host.as_deref().unwrap_or(told);
    match (settings.check, http2) {
        (Check::Tcp | Check::Off, _) => Ok(None),
        (Check::Http, None) => ask(stream, host, settings).await,
        (Check::Http, Some(scheme)) => {
            let request = http2::request(scheme, host, &settings.path)?;
            let head = http2::ask(stream, request, false).await?.head;
            let status = head.status().as_u16();
            if !settings.expect.contains(status) {
                return Err(format!("status {status}"));
            }
            let value = settings.instance_header.as_ref().and_then(|field| head.headers().get(field));
            Ok(value.and_then(|value| named(value.as_bytes())))
        }
        (Check::Grpc, scheme) => {
            let question =
                http2::grpc_question(scheme.unwrap_or("http"), host, settings.service.as_deref().unwrap_or_default())?;
            http2::grpc_verdict(&http2::ask(stream, question, true).await?)?;
            Ok(None)
        }
    }
}

/// Shakes hands as traffic does.
async fn secure(
    stream: Box<dyn Duplex>,
    address: &str,
    tls: &PoolTls,
    trusted: Arc<ClientConfig>,
) -> Result<TlsStream<Box<dyn Duplex>>, String> {
    let name = tls.name_for(address);
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is no name for TLS"))?;
    TlsConnector::from(trusted).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: &str,
    settings: &HealthCheck,
) -> Result<Option<String>, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: steadfast-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        settings.path
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| reason(&error))?;
    let mut head = Vec::with_capacity(1_024);
    loop {
        match final_status(&head)? {
            Some(status) if settings.expect.contains(status) => match &settings.instance_header {
                None => return Ok(None),
                Some(field) if is_whole(&head) => return Ok(instance(&head, field)),
                Some(_) if head.len() >= MAX_HEAD => return Err("a response head that is too long".to_owned()),
                Some(_) => {}
            },
            Some(status) => return Err(format!("status {status}")),
            None if head.len() >= MAX_HEAD => return Err("a response head that is too long".to_owned()),
            None => {}
        }
        if stream.read_buf(&mut head).await.map_err(|error| reason(&error))? == 0 {
            return Err("closed before it answered".to_owned());
        }
    }
}

/// Whether the final response's head is all there.
fn is_whole(head: &[u8]) -> bool {
    final_head(head).windows(4).any(|bytes| bytes == b"\r\n\r\n")
}

/// `head` from its first response on that is no interim one.
fn final_head(mut head: &[u8]) -> &[u8] {
    while head.get(9) == Some(&b'1')
        && let Some(next) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n")
    {
        head = &head[next + 4..];
    }
    head
}

/// What the field of the final response says, as text.
fn instance(head: &[u8], field: &str) -> Option<String> {
    let lines = final_head(head).split(|byte| *byte == b'\n').skip(1).take_while(|line| !line.trim_ascii().is_empty());
    let mut values = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(field.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    });
    named(values.next()?)
}

/// The instance that a field names, if it does.
fn named(value: &[u8]) -> Option<String> {
    let cut = &value[..value.len().min(MAX_INSTANCE)];
    (!cut.is_empty()).then(|| String::from_utf8_lossy(cut).into_owned())
}

/// The status of the first response in `head` that is no interim one; `None` where more bytes are needed.
fn final_status(mut head: &[u8]) -> Result<Option<u16>, String> {
    loop {
        let line = head.iter().position(|byte| *byte == b'\n');
        let Some(end) = line else {
            // What does not begin like a response never becomes one.
            let begins = b"HTTP/1.".iter().zip(head).all(|(wanted, byte)| wanted == byte);
            return if begins { Ok(None) } else { Err("no HTTP response".to_owned()) };
        };
        let status = status(head[..end].trim_ascii_end()).ok_or_else(|| "no HTTP response".to_owned())?;
        if !(100..200).contains(&status) {
            return Ok(Some(status));
        }
        let Some(next) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        head = &head[next + 4..];
    }
}

/// RFC 9112 §4: `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?.strip_prefix(b"1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let ends = after.is_empty() || after[0] == b' ';
    let status = str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && digits.iter().all(u8::is_ascii_digit) && status >= 100).then_some(status)
}

fn reason(error: &io::Error) -> String {
    // Without the number that the operating system adds.
    let text = error.to_string().to_ascii_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::Endpoint;
    use control::spec::{Span, StatusRange};
    use std::net::SocketAddr;
    use tokio::net::{TcpListener, TcpSocket};

    #[test]
    fn finds_the_final_status() {
        for (head, status) in [
            ("", Ok(None)),
            ("HTT", Ok(None)),
            ("HTTP/1.1 200", Ok(None)),
            ("HTTP/1.1 200 OK\r\n", Ok(Some(200))),
            ("HTTP/1.1 200\r\n", Ok(Some(200))),
            ("HTTP/1.0 503 Service Unavailable\r\n", Ok(Some(503))),
            ("HTTP/1.1 103 Early Hints\r\n", Ok(None)),
            ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n", Ok(Some(204))),
            ("SSH-2.0-x\r\n", Err(())),
            ("SSH", Err(())),
            ("HTTP/1.1 2000 x\r\n", Err(())),
            ("HTTP/1.1 abc\r\n", Err(())),
            ("HTTP/1.1 099 x\r\n", Err(())),
            ("HTTP/2 200\r\n", Err(())),
        ] {
            assert_eq!(final_status(head.as_bytes()).map_err(|_| ()), status, "{head:?}");
        }
    }

    async fn check_plainly(
        target: Option<SocketAddr>,
        address: &str,
        settings: &HealthCheck,
    ) -> Result<Option<String>, Arc<str>> {
        let settings = Probing { health: settings.clone(), tls: None, http2: false, send_proxy: None };
        check(target.map(Endpoint::Inet), address, &settings, &Trusts::default()).await
    }

    /// What a check says of a backend that answers `response` and then closes, or keeps silent.
    async fn said_of(response: Option<&'static str>, settings: HealthCheck) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let backend = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1_024];
            let read = stream.read(&mut request).await.unwrap();
            match response {
                Some(response) => stream.write_all(response.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
            String::from_utf8(request[..read].to_vec()).unwrap()
        });
        let outcome = check_plainly(Some(target), "app.internal:80", &settings)
            .await
            .map(drop)
            .map_err(|reason| reason.to_string());
        if response.is_some() && settings.check == Check::Http {
            let request = backend.await.unwrap();
            let host = settings.host.as_deref().unwrap_or("app.internal:80");
            assert!(request.starts_with(&format!("GET /ready HTTP/1.1\r\nHost: {host}\r\n")), "{request}");
        }
        outcome
    }

    #[tokio::test]
    async fn an_http_check_reads_the_status_and_says_what_is_wrong() {
        let settings = HealthCheck {
            check: Check::Http,
            path: "/ready".into(),
            expect: StatusRange { first: 200, last: 299 },
            ..HealthCheck::default()
        };
        let named = HealthCheck { host: Some("shop.example.com".into()), ..settings.clone() };
        let short = HealthCheck { timeout: Span::from_millis(20), ..settings.clone() };
        assert_eq!(said_of(Some("HTTP/1.1 200 OK\r\n\r\n"), settings.clone()).await, Ok(()));
        assert_eq!(said_of(Some("HTTP/1.1 204 No Content\r\n\r\n"), named).await, Ok(()));
        for (response, settings, wrong) in [
            (Some("HTTP/1.1 503 No\r\n\r\n"), settings.clone(), "status 503"),
            (Some(""), settings.clone(), "closed before it answered"),
            (Some("hello\n"), settings, "no HTTP response"),
            (None, short, "no answer within 20ms"),
        ] {
            assert_eq!(said_of(response, settings).await, Err(wrong.to_owned()));
        }
    }

    #[test]
    fn finds_the_instance_of_the_final_response() {
        for (head, whole, found) in [
            ("HTTP/1.1 200 OK\r\nX-Instance: a\r\n", false, Some("a")),
            ("HTTP/1.1 200 OK\r\nDate: x\r\nx-instance:  b c \r\n\r\nX-Instance: no\r\n", true, Some("b c")),
            ("HTTP/1.1 103 Early\r\nX-Instance: no\r\n\r\nHTTP/1.1 200 OK\r\nX-Instance: a\r\n\r\n", true, Some("a")),
            ("HTTP/1.1 103 Early\r\nX-Instance: no\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true, None),
            ("HTTP/1.1 200 OK\r\nX-Instance:\r\n\r\n", true, None),
            ("HTTP/1.1 200 OK\r\nX-Instances: a\r\n\r\n", true, None),
        ] {
            let head = head.as_bytes();
            assert_eq!((is_whole(head), instance(head, "X-Instance").as_deref()), (whole, found));
        }
        let long = format!("HTTP/1.1 200 OK\r\nI: {}\r\n\r\n", "x".repeat(1_000));
        assert_eq!(instance(long.as_bytes(), "I").map(|instance| instance.len()), Some(MAX_INSTANCE));
    }

    #[tokio::test]
    async fn a_tcp_check_needs_no_more_than_a_connection() {
        let settings = HealthCheck::default();
        assert_eq!(said_of(None, settings.clone()).await, Ok(()));
        // Bound and not listening: nobody else gets the port, and nobody answers on it.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(&*check_plainly(silent.local_addr().ok(), "", &settings).await.unwrap_err(), "connection refused");
        assert_eq!(&*check_plainly(None, "no.such:1", &settings).await.unwrap_err(), "its name does not resolve");
    }
}
