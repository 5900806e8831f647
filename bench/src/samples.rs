//! What is decided about: heads, cookies and sessions as they come.

use affinity::{
    cookie::CookieName,
    hash::mix64,
    table::PoolTable,
    token::{SEALED_LEN, Token},
};
use control::spec::Forwarding;
use dataplane::http1::{ToBackend, ToClient, Version};

/// What a browser sends for a page: 9 fields.
pub const REQUEST: &[u8] = b"GET /cart/items?page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: theme=dark; lb-affinity=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMk; cart=17\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Mode: navigate\r\n\r\n";

pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx\r\n\
    Date: Mon, 24 Nov 2025 10:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 5120\r\n\
    Last-Modified: Mon, 24 Nov 2025 09:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    ETag: \"69242f10-1400\"\r\n\
    Cache-Control: no-cache\r\n\
    X-Frame-Options: DENY\r\n\
    Accept-Ranges: bytes\r\n\r\n";

/// A header's value of `count` cookies and about `len` bytes, ours in the middle.
pub fn cookies(count: usize, len: usize) -> Vec<u8> {
    let others = count - 1;
    let filler = "v".repeat(len / others);
    let mut pairs: Vec<String> = (0..others).map(|i| format!("session-{i}={filler}")).collect();
    pairs.insert(others / 2, format!("lb-affinity={}", "t".repeat(SEALED_LEN)));
    pairs.join("; ").into_bytes()
}

/// Unix seconds.
pub const NOW: u32 = 1_790_000_000;

/// The `Cookie` fields of sessions all over the pool: so many that what is kept of backends is not all in the cache of a core.
/// They lie one behind the other and are gone through in order, so that their own bytes are at hand when they are read, as
/// those of a head are that was parsed just before.
#[derive(Debug)]
pub struct Sessions {
    text: Vec<u8>,
    len: usize,
}

impl Sessions {
    /// Of a pool that seals its tokens.
    ///
    /// # Panics
    /// Where it does not.
    pub fn of(pool: &PoolTable) -> Self {
        let keys = pool.keys.as_ref().expect("the pool seals");
        let mut text = Vec::new();
        let mut len = 0;
        for i in 0..16_384 {
            let backend = &pool.backends[mix64(i) as usize % pool.backends.len()];
            let token = Token {
                backend_ref: keys.backend_ref(0, &backend.name),
                incarnation: backend.incarnation,
                session_key: mix64(!i),
                issued_at: NOW - 600,
                last_seen: NOW - 60,
            };
            let mut sealed = [0; SEALED_LEN];
            keys.seal(&token, &mut sealed);
            let start = text.len();
            text.extend_from_slice(b"theme=dark; lb-affinity=");
            text.extend_from_slice(&sealed);
            text.extend_from_slice(b"; cart=17");
            len = text.len() - start;
        }
        Self { text, len }
    }

    pub fn iter(&self) -> std::slice::ChunksExact<'_, u8> {
        self.text.chunks_exact(self.len)
    }
}

/// How [`REQUEST`] goes to a backend that is not to see the affinity cookie of this name.
pub fn to_backend<'a>(forwarding: &'a Forwarding, hide_cookie: Option<&'a CookieName>) -> ToBackend<'a> {
    ToBackend {
        forwarding,
        trusted: false,
        client_ip: "198.51.100.23",
        tls: false,
        http2: false,
        subject: None,
        backend_host: "10.0.0.1:8080",
        hide_cookie,
        unwrap: None,
        upgrade: None,
        unique: 1,
    }
}

/// How [`RESPONSE`] goes to a client that has its cookie.
pub fn to_client() -> ToClient<'static> {
    ToClient {
        version: Version::Http11,
        http2: false,
        keep_alive: true,
        via: "steadfast",
        extra: b"",
        wrap: None,
        hsts: None,
        private: false,
    }
}
