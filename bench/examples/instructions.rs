//! Runs one step of the request path so many times, for `bench/instructions` to have its instructions counted.

use affinity::{
    balance::Calm,
    choose::choose,
    cookie::CookieName,
    hash::mix64,
    marker::{self, Parts},
    ring::Ring,
    table::PoolTable,
    token::{MasterKey, PoolKeys, SEALED_LEN, Token},
    wheel::Turn,
};
use bench::samples::{self, NOW, REQUEST, RESPONSE, Sessions, cookies};
use control::spec::{Forwarding, Pool};
use dataplane::http1::{Asked, Chunked, FieldIndex, HeadScan, Limits, Method, Output, Parse, head, response, rewrite};
use std::hint::black_box;

type Step = Box<dyn FnMut()>;

/// Makes a step, with all that it needs.
type Make = fn() -> Step;

/// By name, in the order in which they are told.
const STEPS: [(&str, Make); 10] = [
    ("token, seal", || token(|keys, token, text| keys.seal(black_box(token), text))),
    ("token, open", || token(|keys, _, text| assert!(keys.open(black_box(text), NOW).is_ok()))),
    ("cookie, find among 8", find_cookie),
    ("ring, lookup of 10,000", lookup),
    ("pin, find", || pinned(false)),
    ("pin, find and choose", || pinned(true)),
    ("request, scan and parse", || request(false)),
    ("request, scan, parse and rewrite", || request(true)),
    ("response, scan, parse and rewrite", rewrite_response),
    ("chunked, 4 KiB", chunked),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, count) = (arguments.next(), arguments.next().and_then(|count| count.parse::<u32>().ok()));
    let step = STEPS.iter().find(|(known, _)| name.as_deref() == Some(known));
    let (Some((_, make)), Some(count)) = (step, count) else {
        STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let mut step = make();
    (0..count).for_each(|_| step());
}

fn token(act: fn(&PoolKeys, &Token, &mut [u8; SEALED_LEN])) -> Step {
    let keys = PoolKeys::new("shop", &[MasterKey::new([7; 32])]).expect("there is a key");
    let backend_ref = keys.backend_ref(0, "app-1");
    let token = Token { backend_ref, incarnation: 3, session_key: 77, issued_at: NOW - 600, last_seen: NOW - 60 };
    let mut text = [0; SEALED_LEN];
    keys.seal(&token, &mut text);
    Box::new(move || act(&keys, &token, &mut text))
}

fn find_cookie() -> Step {
    let name = CookieName::new("lb-affinity").expect("it is a token");
    let header = cookies(8, 200);
    Box::new(move || assert!(name.find(black_box(&header)).next().is_some()))
}

fn lookup() -> Step {
    let names: Vec<String> = (0..10_000).map(|i| format!("app-{i}")).collect();
    let members: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let ring = Ring::build(&members);
    let mut key = 0;
    Box::new(move || {
        key += 1;
        black_box(ring.lookup(mix64(key)));
    })
}

fn pinned(chooses: bool) -> Step {
    let table = bench::table(Pool::default(), 3);
    let sessions: Vec<Vec<u8>> = Sessions::of(&table.pools[0]).iter().take(64).map(<[u8]>::to_vec).collect();
    let (mut turn, mut next) = (Turn::default(), 0);
    Box::new(move || {
        let pool: &PoolTable = &table.pools[0];
        next = (next + 1) % sessions.len();
        let cookie = &[&sessions[next][..]];
        let found = marker::find(pool, &Parts::with_cookies(black_box(cookie), [198, 51, 100, 23].into()), NOW, 77);
        if chooses {
            let choice = choose(pool, &found.asked(found.pin, 99, NOW), &mut turn, &Calm::default());
            assert!(black_box(choice).is_ok());
        }
    })
}

fn request(rewrites: bool) -> Step {
    let (limits, forwarding, name) = (Limits::default(), Forwarding::default(), CookieName::new("lb-affinity"));
    let (mut out, mut index) = (Vec::with_capacity(4_096), FieldIndex::default());
    Box::new(move || {
        out.clear();
        assert!(HeadScan::default().due(black_box(REQUEST), &limits));
        let Ok(Parse::Complete { head, .. }) = head::parse(black_box(REQUEST), &limits, &mut index) else {
            panic!("it is a whole request")
        };
        if rewrites {
            rewrite::request(&head, &samples::to_backend(&forwarding, name.as_ref()), &mut out);
        }
        black_box(&out);
    })
}

fn rewrite_response() -> Step {
    let limits = Limits::default();
    let (mut out, mut index) = (Vec::with_capacity(4_096), FieldIndex::default());
    Box::new(move || {
        out.clear();
        assert!(HeadScan::default().due(black_box(RESPONSE), &limits));
        let asked = Asked { method: Method::Get, upgrade: None };
        let Ok(Parse::Complete { head, .. }) = response::parse(black_box(RESPONSE), &limits, asked, &mut index) else {
            panic!("it is a whole response")
        };
        black_box(rewrite::response(&head, &samples::to_client(), &mut out));
    })
}

fn chunked() -> Step {
    let one = [b"1000\r\n", &[b'x'; 4_096][..], b"\r\n"].concat();
    let mut text = one.clone();
    Box::new(move || {
        text.clone_from(&one);
        assert!(Chunked::default().advance(black_box(&mut text), Output::Chunked).is_ok());
    })
}
