//! Each protocol by each way of finding a session's backend: sessions stay, a drain keeps them or moves them as it should,
//! the death of a backend moves its own and no others, and the loss is counted.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};
use support::{
    Folder, Instance, Running, Setup, eventually,
    peers::{Nginx, start_python},
    websockets::Server,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A server that tells its name.
struct Backend {
    process: Running,
    address: String,
    _folder: Option<Folder>,
}

impl Backend {
    fn start(protocol: &str, name: &str) -> Self {
        match protocol {
            "websocket" => {
                let Server { peer, address } = Server::start(name);
                Self { process: peer.0, address, _folder: None }
            }
            "grpc" => {
                let program = concat!(include_str!("support/grpc.py"), "\nserve(sys.argv[1])");
                let process = start_python(program, &[name]);
                let address = said(&process)["address"].as_str().unwrap().to_owned();
                Self { process, address, _folder: None }
            }
            _ => {
                let Nginx { mut backends, process, folder } = Nginx::start(&[name]);
                Self { process, address: backends.remove(0).1, _folder: Some(folder) }
            }
        }
    }
}

/// The first thing that a program says.
fn said(process: &Running) -> Value {
    let line = eventually("it says something", || {
        let text = process.stdout();
        text.split_once('\n').map(|(line, _)| line.to_owned())
    });
    serde_json::from_str(&line).unwrap()
}

/// Users by their numbers, who come when they are told to.
struct Users {
    process: Running,
    commands: BufReader<TcpStream>,
}

impl Users {
    fn start(protocol: &str, affinity: &str, address: &str) -> Self {
        let program =
            [include_str!("support/http2.py"), include_str!("support/grpc.py"), include_str!("support/visits.py")];
        let process = start_python(&program.join("\n"), &[protocol, affinity, address]);
        let commands = TcpStream::connect(format!("127.0.0.1:{}", said(&process)["port"])).unwrap();
        commands.set_read_timeout(Some(4 * support::PATIENCE)).unwrap();
        Self { process, commands: BufReader::new(commands) }
    }

    /// Where these came to.
    fn visit(&mut self, users: std::ops::Range<usize>) -> Vec<String> {
        let users: Vec<_> = users.collect();
        writeln!(self.commands.get_mut(), "{}", json!(users)).unwrap();
        let mut line = String::new();
        self.commands.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{}", self.process.stderr());
        serde_json::from_str(&line).unwrap()
    }
}

struct Case {
    what: String,
    users: Users,
    backends: [Backend; 3],
    instance: Instance,
    /// A hash says where, and not what was given to the client.
    is_hashed: bool,
}

impl Case {
    fn start(protocol: &str, affinity: &str) -> Self {
        let backends = NAMES.map(|name| Backend::start(protocol, name));
        let affinity_of = match affinity {
            "header" => "mode = \"header\"\nheader = { name = \"X-User\", style = \"hash\" }",
            "source-ip" => "mode = \"source-ip\"\nsource_ip = { ipv4_prefix = 32 }",
            _ => "mode = \"cookie\"",
        };
        let listener = match protocol {
            "tcp" => "protocol = \"tcp\"",
            _ => "trusted_proxies = [\"127.0.0.0/8\"]",
        };
        let http2 = protocol == "grpc";
        let pool = format!("http2 = {http2}\n[pool.affinity]\n{affinity_of}\n[pool.health]\ncheck = \"off\"\n");
        let addresses = NAMES.iter().zip(&backends).map(|(name, backend)| (name, &backend.address));
        let instance = Setup::listening(listener, &pool, addresses).start();
        let users = Users::start(protocol, affinity, &instance.listener("web"));
        let what = format!("{protocol} by {affinity}");
        Self { what, users, backends, instance, is_hashed: affinity != "cookie" }
    }

    fn command(&self, name: &str, what: &str) {
        let (status, answer) =
            self.instance.api("POST", &format!("/v1/pools/shop/backends/{name}/{what}"), Some(json!({})));
        assert_eq!(status, 200, "{}: {answer}", self.what);
    }

    /// All users come again; those of `moved` have to be elsewhere than at it, and the others where they were.
    fn again(&mut self, homes: &[String], moved: Option<&str>) -> Vec<String> {
        let places = self.users.visit(0..homes.len());
        for (user, (home, place)) in homes.iter().zip(&places).enumerate() {
            let stays = moved != Some(home.as_str());
            assert_eq!(place == home, stays, "{}: user {user} of {home} came to {place}", self.what);
        }
        places
    }
}

/// So many users that none of three backends has none of them but once in ten million cases.
const USERS: usize = 40;

fn hold(protocol: &str, affinities: &[&str]) {
    for affinity in affinities {
        let mut case = Case::start(protocol, affinity);
        let homes = case.users.visit(0..USERS);
        let busiest = *NAMES.iter().max_by_key(|name| homes.iter().filter(|home| home == *name).count()).unwrap();
        assert!(NAMES.iter().all(|name| homes.iter().any(|home| home == name)), "{}: {homes:?}", case.what);
        case.again(&homes, None);

        case.command(busiest, "drain");
        // What was given to a client keeps it there; a hash can't tell old from new.
        case.again(&homes, case.is_hashed.then_some(busiest));
        let new = case.users.visit(USERS..USERS + 20);
        assert!(!new.iter().any(|home| home == busiest), "{}: {new:?}", case.what);
        case.command(busiest, "activate");
        case.again(&homes, None);

        let at_busiest = homes.iter().filter(|home| *home == busiest).count();
        let dead = NAMES.iter().position(|name| *name == busiest).unwrap();
        case.backends[dead].process.signal(Signal::KILL);
        eventually("it is dead", || case.backends[dead].process.has_ended().then_some(()));
        let homes = case.again(&homes, Some(busiest));
        case.again(&homes, None);
        // What is told is a loss for good where the client was bound to it, and a visit elsewhere where a hash leads home.
        let wanted = if case.is_hashed { 2 * at_busiest } else { at_busiest };
        eventually(&format!("{}: the loss of {at_busiest} is counted", case.what), || {
            let counted = match case.is_hashed {
                true => case.instance.pool_count("spilled"),
                false => case.instance.backend("shop", busiest)["sessions_lost"].as_u64().unwrap(),
            };
            (counted == wanted as u64).then_some(())
        });
    }
}

#[test]
fn sessions_hold_over_http_1() {
    hold("http1", &["cookie", "header", "source-ip"]);
}

#[test]
fn sessions_hold_over_http_2() {
    hold("http2", &["cookie", "header", "source-ip"]);
}

#[test]
fn sessions_hold_over_websockets() {
    hold("websocket", &["cookie", "header", "source-ip"]);
}

#[test]
fn sessions_hold_over_grpc() {
    hold("grpc", &["cookie", "header", "source-ip"]);
}

#[test]
fn sessions_hold_over_tcp() {
    hold("tcp", &["source-ip"]);
}
