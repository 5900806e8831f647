//! The per-request path of HTTP/1.1: parse and rewrite a head of each kind, pass a chunked body on.

use affinity::cookie::CookieName;
use control::spec::Forwarding;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::http1::{
    Asked, Chunked, FieldIndex, HeadScan, Limits, Method, Output, Parse, RequestHead, ResponseHead, ToBackend,
    ToClient, Version, head, response, rewrite,
};
use std::hint::black_box;

/// What a browser sends for a page: 9 fields.
const REQUEST: &[u8] = b"GET /cart/items?page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: theme=dark; lb-affinity=AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMk; cart=17\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Mode: navigate\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
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

const ASKED: Asked<'_> = Asked { method: Method::Get, upgrade: None };

fn parsed<'i>(limits: &Limits, index: &'i mut FieldIndex) -> RequestHead<'i> {
    match head::parse(black_box(REQUEST), limits, index) {
        Ok(Parse::Complete { head, .. }) => head,
        other => panic!("{other:?}"),
    }
}

fn parsed_response<'i>(limits: &Limits, index: &'i mut FieldIndex) -> ResponseHead<'i> {
    match response::parse(black_box(RESPONSE), limits, ASKED, index) {
        Ok(Parse::Complete { head, .. }) => head,
        other => panic!("{other:?}"),
    }
}

fn heads(criterion: &mut Criterion) {
    let limits = Limits::default();
    let forwarding = Forwarding::default();
    let name = CookieName::new("lb-affinity");
    let to_backend = ToBackend {
        forwarding: &forwarding,
        trusted: false,
        client_ip: "198.51.100.23",
        tls: false,
        http2: false,
        subject: None,
        backend_host: "10.0.0.1:8080",
        hide_cookie: name.as_ref(),
        unwrap: None,
        upgrade: None,
    };
    let to_client = ToClient {
        version: Version::Http11,
        http2: false,
        keep_alive: true,
        via: "steadfast",
        extra: b"",
        wrap: None,
        hsts: None,
        private: false,
    };
    let mut out = Vec::with_capacity(4096);
    let mut index = FieldIndex::default();

    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| parsed(&limits, &mut index).keep_alive));
    group.bench_function("scan, parse, rewrite", |bencher| {
        bencher.iter(|| {
            out.clear();
            assert!(HeadScan::default().due(black_box(REQUEST), &limits));
            rewrite::request(&parsed(&limits, &mut index), &to_backend, &mut out);
            out.len()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("response");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse", |bencher| bencher.iter(|| parsed_response(&limits, &mut index).keep_alive));
    group.bench_function("scan, parse, rewrite", |bencher| {
        bencher.iter(|| {
            out.clear();
            assert!(HeadScan::default().due(black_box(RESPONSE), &limits));
            rewrite::response(&parsed_response(&limits, &mut index), &to_client, &mut out);
            out.len()
        });
    });
    group.finish();
}

/// 16 KiB of a body: as a server streams it, with extensions that have to go, and in chunks of one byte.
fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for (label, chunk, size) in
        [("4 KiB chunks", "1000\r\n", 4096), ("with extensions", "1000;a=b\r\n", 4096), ("1 byte chunks", "1\r\n", 1)]
    {
        let one = [chunk.as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let encoded = one.repeat(16 * 1024 / one.len());
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(label, |bencher| {
            bencher.iter_batched_ref(
                || encoded.clone(),
                |buf| Chunked::default().advance(buf, Output::Chunked).map(|step| step.produced),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
