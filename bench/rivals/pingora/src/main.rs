//! Sticky sessions on Pingora, which is a library: a proxy with the features that `bench/compare` asks of every peer. A cookie
//! names the backend, one worker thread serves, and what Pingora does by default is left as it is.

use async_trait::async_trait;
use clap::Parser;
use http::{
    HeaderName, HeaderValue,
    header::{COOKIE, HOST, SET_COOKIE},
};
use pingora_core::{
    Result,
    listeners::tls::TlsSettings,
    prelude::HttpPeer,
    server::{RunArgs, Server, configuration::ServerConf},
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use std::{
    net::SocketAddr,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

const AFFINITY: &str = "lb-affinity";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Connections to backends that are kept, of all of them together.
const POOL: usize = 4_096;
/// What was built in, for `--version`: nothing in Pingora tells it.
const LOCK: &str = include_str!("../Cargo.lock");

/// A proxy on Pingora that keeps a session on its backend by a cookie.
#[derive(Parser)]
#[command(version = version())]
struct Arguments {
    /// Where clients come.
    #[arg(long)]
    listen: SocketAddr,
    /// Where they are led, as NAME=ADDRESS; may be given several times.
    #[arg(long = "backend", required = true)]
    backends: Vec<Backend>,
    /// Has clients speak TLS, with HTTP/2 or HTTP/1.1 as they choose: a file of the certificate's chain.
    #[arg(long, requires = "key")]
    certificate: Option<String>,
    /// The file of its key.
    #[arg(long, requires = "certificate")]
    key: Option<String>,
}

fn version() -> &'static str {
    let (_, from) = LOCK.split_once("name = \"pingora-core\"\nversion = \"").unwrap_or_default();
    from.split('"').next().unwrap_or_default()
}

#[derive(Clone)]
struct Backend {
    name: String,
    address: SocketAddr,
    /// What a new session is given.
    marker: HeaderValue,
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("it is no NAME=ADDRESS")?;
        let address = address.parse::<SocketAddr>().map_err(|error| format!("{address}: {error}"))?;
        let marker = HeaderValue::try_from(format!("{AFFINITY}={name}; Path=/; HttpOnly"))
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name: name.to_owned(), address, marker })
    }
}

struct Sticky {
    backends: Vec<Backend>,
    /// New sessions so far, which go to the backends in turn.
    begun: AtomicUsize,
}

/// Where a request goes.
#[derive(Default)]
struct Choice {
    backend: usize,
    is_new: bool,
}

impl Sticky {
    fn choose(&self, request: &RequestHeader) -> Choice {
        let named = cookies(request).find_map(home);
        match named.and_then(|name| self.backends.iter().position(|backend| backend.name == name)) {
            Some(backend) => Choice { backend, is_new: false },
            None => {
                let turn = self.begun.fetch_add(1, Ordering::Relaxed);
                Choice { backend: turn % self.backends.len(), is_new: true }
            }
        }
    }
}

fn cookies(request: &RequestHeader) -> impl Iterator<Item = &str> {
    let fields = request.headers.get_all(COOKIE).into_iter();
    fields.filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(';').map(str::trim))
}

/// The backend that a cookie names, if it is ours.
fn home(cookie: &str) -> Option<&str> {
    cookie.strip_prefix(AFFINITY)?.strip_prefix('=')
}

/// Backends are not told of our cookie; those of the site stay.
fn hide_cookie(request: &mut RequestHeader) -> Result<()> {
    if cookies(request).all(|cookie| home(cookie).is_none()) {
        return Ok(());
    }
    let others = cookies(request).filter(|cookie| home(cookie).is_none()).collect::<Vec<_>>().join("; ");
    request.remove_header(&COOKIE);
    if !others.is_empty() {
        request.insert_header(COOKIE, others)?;
    }
    Ok(())
}

#[async_trait]
impl ProxyHttp for Sticky {
    type CTX = Choice;

    fn new_ctx(&self) -> Choice {
        Choice::default()
    }

    async fn upstream_peer(&self, session: &mut Session, choice: &mut Choice) -> Result<Box<HttpPeer>> {
        *choice = self.choose(session.req_header());
        Ok(Box::new(HttpPeer::new(self.backends[choice.backend].address, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut Choice,
    ) -> Result<()> {
        hide_cookie(request)?;
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.append_header(FORWARDED_FOR, client.ip().to_string())?;
        }
        // A client of HTTP/1.0 may name none, and a backend of HTTP/1.1 has to be told one.
        if !request.headers.contains_key(HOST) {
            request.insert_header(HOST, "localhost")?;
        }
        Ok(())
    }

    async fn response_filter(&self, _: &mut Session, response: &mut ResponseHeader, choice: &mut Choice) -> Result<()> {
        if choice.is_new {
            response.append_header(SET_COOKIE, self.backends[choice.backend].marker.clone())?;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let Arguments { listen, backends, certificate, key } = Arguments::parse();
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOL,
        // It would wait for minutes when it is to end.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Sticky { backends, begun: AtomicUsize::new(0) });
    match certificate.zip(key) {
        Some((certificate, key)) => {
            let mut settings = TlsSettings::intermediate(&certificate, &key)?;
            settings.enable_h2();
            service.add_tls_with_settings(&listen.to_string(), None, settings);
        }
        None => service.add_tcp(&listen.to_string()),
    }
    server.add_service(service);
    server.run(RunArgs::default());
    Ok(())
}
