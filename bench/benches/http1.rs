//! The per-request path of HTTP/1.1: parse and rewrite a head of each kind, pass a chunked body on.

use affinity::cookie::CookieName;
use bench::samples::{self, REQUEST, RESPONSE};
use control::spec::Forwarding;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::http1::{
    Asked, Chunked, FieldIndex, HeadScan, Limits, Method, Output, Parse, RequestHead, ResponseHead, head, response,
    rewrite,
};
use std::hint::black_box;

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
    let (to_backend, to_client) = (samples::to_backend(&forwarding, name.as_ref()), samples::to_client());
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
