//! Two nodes that know nothing of each other decide alike: the same configuration with its members in another order, the same
//! keys, and whatever either has handed out. `STEADFAST_REQUESTS` says how many requests; 100,000 take half a minute.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    thread,
};
use support::{Folder, Instance, PATIENCE, Setup, eventually, http::get, peers::Nginx};

const REQUESTS: usize = 20_000;
const ROUNDS: usize = 6;
const SEED: u64 = 0x5EED;
/// Of each pool, by each node.
const SESSIONS: usize = 60;
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Pools with what they are set to; each is reached below a path of its name.
const POOLS: [(&str, &str); 4] = [
    ("repin", ""),
    ("spill", "[pool.affinity]\non_down = \"spill\"\n"),
    ("brief", "[pool.affinity.cookie]\nlifetime = \"1s\"\n"),
    ("hash", "[pool.affinity]\nmode = \"header\"\nheader = { name = \"X-User\" }\n"),
];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What is asked, and whether the answer is free: then nodes need not agree on who gives it.
struct Asked {
    kind: &'static str,
    pool: &'static str,
    text: String,
    free: bool,
}

/// What of an answer has to be alike.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    status: u16,
    backend: String,
    /// The cookie that it sets, and what was said of caches.
    token: Option<String>,
    private: bool,
}

fn configuration(nginx: &Nginx, reversed: bool) -> String {
    let mut backends = nginx.backends.clone();
    let mut pools = POOLS.to_vec();
    if reversed {
        backends.reverse();
        pools.reverse();
    }
    let mut text = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (pool, _) in &pools {
        text += &format!("[[listener.route]]\npath = \"/{pool}\"\npool = \"{pool}\"\n");
    }
    for (pool, settings) in &pools {
        text += &format!("[[pool]]\nname = \"{pool}\"\n{settings}[pool.health]\ncheck = \"off\"\n");
        for (name, address) in &backends {
            text += &format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
    }
    text
}

/// Sends all over one connection, as many ahead of their answers as a burst has.
fn answers(address: &str, asked: &[Asked]) -> Vec<Decided> {
    const BURST: usize = 64;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut decided, mut buffer, mut piece) = (Vec::with_capacity(asked.len()), Vec::new(), vec![0; 1 << 16]);
    for burst in asked.chunks(BURST) {
        let text: String = burst.iter().map(|asked| asked.text.as_str()).collect();
        stream.write_all(text.as_bytes()).unwrap();
        let wanted = decided.len() + burst.len();
        while decided.len() < wanted {
            match parse(&buffer) {
                Some((answer, length)) => {
                    decided.push(answer);
                    buffer.drain(..length);
                }
                None => {
                    let count = stream.read(&mut piece).unwrap();
                    assert!(count > 0, "the connection was closed after {} answers", decided.len());
                    buffer.extend_from_slice(&piece[..count]);
                }
            }
        }
    }
    decided
}

/// The answer at the front of the buffer with its length, if it is whole.
fn parse(buffer: &[u8]) -> Option<(Decided, usize)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&buffer[..end]).unwrap();
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let length: usize = field("Content-Length").unwrap().parse().unwrap();
    let cookie = field("Set-Cookie").map(|line| line.split(';').next().unwrap().to_owned());
    let decided = Decided {
        status: head[9..12].parse().unwrap(),
        backend: field("X-Backend").unwrap_or_default().to_owned(),
        token: cookie,
        private: field("Cache-Control") == Some("private"),
    };
    (buffer.len() >= end + length).then_some((decided, end + length))
}

fn request(pool: &str, field: &str) -> String {
    format!("GET /{pool} HTTP/1.1\r\nHost: x\r\n{field}\r\n")
}

/// Sessions of a pool, by whichever node they began or moved at.
type Tokens = BTreeMap<&'static str, Vec<String>>;

fn draw(random: &mut Random, tokens: &Tokens) -> Asked {
    let pool = *random.one_of(&["repin", "repin", "spill"]);
    let valid = random.one_of(&tokens[pool]);
    let (kind, pool, field, free) = match random.below(20) {
        0 => ("none", pool, String::new(), true),
        1 => ("forged", pool, format!("Cookie: {}\r\n", forged(random, valid)), true),
        2 => ("of another pool", pool, format!("Cookie: {}\r\n", random.one_of(&tokens["brief"])), true),
        3 => ("expired", "brief", format!("Cookie: {}\r\n", random.one_of(&tokens["brief"])), true),
        4..=7 => ("hashed", "hash", format!("X-User: u{}\r\n", random.below(5_000)), false),
        8 => {
            let forged = forged(random, valid);
            ("several", pool, format!("Cookie: {forged}; x=1; {valid}\r\n"), false)
        }
        _ => ("valid", pool, format!("Cookie: {valid}\r\n"), false),
    };
    Asked { kind, pool, text: request(pool, &field), free }
}

/// The token with one character changed: somewhere before its end, where all bits count.
fn forged(random: &mut Random, cookie: &str) -> String {
    let mut bytes = cookie.as_bytes().to_vec();
    let name = cookie.find('=').unwrap() + 1;
    let at = name + random.below(cookie.len() - name - 1);
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn command(nodes: &[Instance; 2], method: &str, path: &str, body: Option<&Value>) {
    for node in nodes {
        let (status, answer) = node.api(method, path, body.cloned());
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{path}: {answer}");
    }
}

/// Puts other backends out of service than the round before, at both nodes.
fn shuffle(nodes: &[Instance; 2], random: &mut Random, before: &mut Vec<String>) {
    for path in before.drain(..) {
        command(nodes, "PUT", &format!("{path}/health"), Some(&json!({ "health": "auto" })));
        command(nodes, "POST", &format!("{path}/activate"), None);
    }
    for (pool, _) in POOLS {
        let first = random.below(NAMES.len() - 1);
        for (offset, what) in ["down", "drain", "maintenance"].into_iter().enumerate() {
            // The last one is removed halfway.
            let path = format!("/v1/pools/{pool}/backends/{}", NAMES[(first + offset) % (NAMES.len() - 1)]);
            match what {
                "down" => command(nodes, "PUT", &format!("{path}/health"), Some(&json!({ "health": "down" }))),
                what => command(nodes, "POST", &format!("{path}/{what}"), None),
            }
            before.push(path);
        }
    }
}

/// What each node has counted of a pool, once it is told of all these requests.
fn counts(node: &Instance, pool: &str, requests: u64) -> BTreeMap<String, String> {
    let suffix = format!("_total{{pool=\"{pool}\"}} ");
    eventually("all requests are counted", || {
        let (_, page) = node.api_text("GET", "/metrics");
        let rows = page.lines().filter_map(|line| line.strip_prefix("steadfast_pool_")?.split_once(&suffix));
        let counts: BTreeMap<_, _> = rows.map(|(name, count)| (name.to_owned(), count.to_owned())).collect();
        (counts["requests"] == requests.to_string()).then_some(counts)
    })
}

/// Tokens that both nodes have handed out, those of `brief` so long ago that they are over.
fn begin(nodes: &[Instance; 2]) -> Tokens {
    let addresses = nodes.each_ref().map(|node| node.listener("web"));
    let mut tokens = Tokens::new();
    for (pool, _) in POOLS.into_iter().filter(|(pool, _)| *pool != "hash") {
        let fresh: Vec<_> =
            (0..SESSIONS).map(|_| Asked { kind: "none", pool, text: request(pool, ""), free: true }).collect();
        let begun = addresses.iter().flat_map(|address| answers(address, &fresh));
        tokens.insert(pool, begun.map(|answer| answer.token.expect("a session begins")).collect());
    }
    let last = tokens["brief"].last().unwrap();
    eventually("the brief sessions are over", || {
        get(&addresses[0], "/brief", &[("Cookie", last)]).cookie("lb-affinity")
    });
    tokens
}

#[test]
fn two_nodes_with_the_same_keys_and_members_decide_alike() {
    let requests = std::env::var("STEADFAST_REQUESTS").map_or(REQUESTS, |count| count.parse().unwrap());
    support::figure(format_args!("{requests} requests, to two nodes each"));
    let nginx = Nginx::start(&NAMES);
    let folder = Folder::new();
    let keys = format!("workers = 2\nkeys_file = {:?}", folder.path("keys"));
    let nodes = [false, true].map(|reversed| Setup::new(&configuration(&nginx, reversed)).global(&keys).start());
    let mut tokens = begin(&nodes);
    let (mut random, mut out) = (Random(SEED), Vec::new());
    let mut seen: BTreeMap<(&str, bool, bool), u64> = BTreeMap::new();
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        shuffle(&nodes, &mut random, &mut out);
        if round == ROUNDS / 2 {
            for (pool, _) in POOLS {
                command(&nodes, "DELETE", &format!("/v1/pools/{pool}/backends/h"), None);
            }
        }
        let asked: Vec<_> = (0..requests / ROUNDS).map(|_| draw(&mut random, &tokens)).collect();
        let addresses = nodes.each_ref().map(|node| node.listener("web"));
        let decided = thread::scope(|scope| {
            let (asked, half) = (&asked, asked.len() / 2);
            // Connections of both workers, as likely as not.
            let both = addresses.each_ref().map(|address| {
                [&asked[..half], &asked[half..]].map(|part| scope.spawn(move || answers(address, part)))
            });
            both.map(|node| node.into_iter().flat_map(|part| part.join().unwrap()).collect::<Vec<_>>())
        });
        for ((asked, one), other) in asked.iter().zip(&decided[0]).zip(&decided[1]) {
            let what = format!("seed {SEED:#x}, round {round}: {} at {}: {one:?}, {other:?}", asked.kind, asked.text);
            assert_eq!((one.status, one.private), (200, one.token.is_some()), "{what}");
            assert_eq!((other.status, other.private), (200, other.token.is_some()), "{what}");
            assert_eq!(one.token.is_some(), other.token.is_some(), "{what}");
            assert!(asked.free || one.backend == other.backend, "{what}");
            assert!(!asked.free || one.token.is_some(), "{what}");
            *seen.entry((asked.kind, asked.free, one.token.is_some())).or_default() += 1;
            *sent.entry(asked.pool).or_default() += 1;
        }
        // Sessions that were bound elsewhere go on at both, by what either of them said.
        for (asked, pair) in asked.iter().zip(decided[0].iter().zip(&decided[1])) {
            let fresh = if random.below(2) == 0 { &pair.0.token } else { &pair.1.token };
            if let Some(token) = fresh.as_ref().filter(|_| asked.kind == "valid") {
                tokens.get_mut(asked.pool).unwrap().push(token.clone());
            }
        }
    }
    for wanted in [("valid", false, false), ("valid", false, true), ("hashed", false, false), ("expired", true, true)] {
        assert!(seen.get(&wanted).is_some_and(|count| *count > 100), "{wanted:?} is among them: {seen:?}");
    }
    // When the brief sessions were over was asked of one node alone.
    for (pool, _) in POOLS.into_iter().filter(|(pool, _)| *pool != "brief") {
        let begun = if pool == "hash" { 0 } else { SESSIONS as u64 };
        let both = nodes.each_ref().map(|node| counts(node, pool, begun + sent[pool]));
        let same = |name: &&String| *name != "requests" && *name != "unpinned";
        for name in both[0].keys().filter(same) {
            assert_eq!(both[0][name], both[1][name], "{pool}: {name}");
        }
    }
}
