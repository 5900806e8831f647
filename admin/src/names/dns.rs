//! DNS, as far as the system's resolver does not speak it: SRV records (RFC 2782), by a server that is named, or those of
//! `/etc/resolv.conf`. Each look-up asks anew: what may be kept, and for how long, the servers know.

use super::{
    TIMEOUT,
    source::{Place, Places, Source, by_family, shown},
};
use control::{check::MAX_WEIGHT, spec::Family};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE,
    rdata::{OPT, RData, SRV},
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one server may take before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// What an answer over UDP may measure, in bytes: what passes everywhere in one piece (RFC 9715 section 3.1, R5).
const UDP_SIZE: u16 = 1_232;
const PORT: u16 = 53;
/// As many as the system's resolver asks.
const MOST_SERVERS: usize = 3;

/// The SRV records of a name.
pub(super) struct Service {
    /// `_service._proto.name`.
    pub(super) name: String,
    pub(super) server: Option<SocketAddr>,
    pub(super) family: Family,
}

impl Source for Service {
    async fn find(self) -> Result<Places, Arc<str>> {
        let late = || format!("no answer within {} s", TIMEOUT.as_secs());
        timeout(TIMEOUT, self.ask()).await.map_err(|_| late())?
    }
}

impl Service {
    async fn ask(&self) -> Result<Places, Arc<str>> {
        let servers = match self.server {
            Some(server) => vec![server],
            // A few lines of this machine's own.
            None => system_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
        };
        let Answer { records, mut addresses } = ask(&servers, &self.name, TYPE::SRV).await?;
        if records.is_empty() {
            return Err(Arc::from("it has no SRV records"));
        }
        // RFC 2782: the service is decidedly not there.
        if records.iter().all(|record| record.target.is_empty()) {
            return Err(Arc::from("its SRV record says that nobody serves it"));
        }
        for record in &records {
            if addresses.iter().any(|(of, _)| *of == record.target) {
                continue;
            }
            for kind in kinds(self.family) {
                let found =
                    ask(&servers, &record.target, *kind).await.map_err(|why| format!("{}: {why}", record.target))?;
                // By whatever name it is called in the end.
                addresses.extend(found.addresses.into_iter().map(|(_, ip)| (record.target.clone(), ip)));
            }
        }
        places(&records, &addresses, self.family)
    }
}

const fn kinds(family: Family) -> &'static [TYPE] {
    match family {
        Family::Ipv4 => &[TYPE::A],
        Family::Ipv6 => &[TYPE::AAAA],
        Family::Either | Family::Both => &[TYPE::A, TYPE::AAAA],
    }
}

/// A record, its target without the dot at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

#[derive(Debug, Default)]
struct Answer {
    records: Vec<Record>,
    /// By the names that they are of.
    addresses: Vec<(String, IpAddr)>,
}

/// Where the records lead. Those of the lowest priority are for sessions, the others are backups. Where all weights are zero
/// the records say nothing of them; otherwise zero is the least there is (RFC 2782, "Weight").
fn places(records: &[Record], addresses: &[(String, IpAddr)], family: Family) -> Result<Places, Arc<str>> {
    let first = records.iter().map(|record| record.priority).min();
    let weighs = records.iter().any(|record| record.weight > 0);
    let mut places = Places::new();
    for Record { priority, weight, port, target } in records {
        let own = addresses.iter().filter(|(of, _)| of == target).map(|(_, ip)| SocketAddr::new(*ip, *port));
        for at in by_family(own, family) {
            let place = Place {
                at,
                weight: weighs.then(|| u32::from(*weight).clamp(1, MAX_WEIGHT)),
                backup: Some(Some(*priority) != first),
            };
            places.insert(format!("{}-{}", shown(at.ip()), at.port()), place);
        }
    }
    if places.is_empty() {
        return Err(Arc::from("its SRV records lead to no address of the family that is asked for"));
    }
    Ok(places)
}

/// The name servers of the system's resolver.
fn system_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| -> Option<IpAddr> {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.split('%').next()?.parse().ok())?
    };
    let mut servers: Vec<_> = resolv_conf.lines().filter_map(address).map(|ip| SocketAddr::new(ip, PORT)).collect();
    servers.truncate(MOST_SERVERS);
    if servers.is_empty() {
        servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    servers
}

/// Asks one server after the other, until one has an answer.
async fn ask(servers: &[SocketAddr], name: &str, kind: TYPE) -> Result<Answer, Arc<str>> {
    let mut why: Arc<str> = Arc::from("there is no server to ask");
    for server in servers {
        match timeout(PATIENCE, ask_one(*server, name, kind)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failure::Told(told))) => return Err(told),
            Ok(Err(Failure::Unheard(unheard))) => why = format!("{server}: {unheard}").into(),
            Err(_) => why = format!("{server} did not answer in time").into(),
        }
    }
    Err(why)
}

enum Failure {
    /// The answer is that there is none.
    Told(Arc<str>),
    /// Another server may know more.
    Unheard(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unheard(error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase())
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: TYPE) -> Result<Answer, Failure> {
    let (id, query) = query(name, kind)?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // From a port of its own each time: with the id, what a forged answer has to guess (RFC 5452 section 9.2).
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut answer = vec![0; usize::from(UDP_SIZE)];
    loop {
        let count = socket.recv(&mut answer).await?;
        let Some(read) = read(&answer[..count], id, name, kind) else { continue };
        return match read {
            Read::Whole(answer) => answer,
            Read::Cut => by_tcp(server, &query, id, name, kind).await,
        };
    }
}

/// What did not fit into one packet (RFC 7766).
async fn by_tcp(server: SocketAddr, query: &[u8], id: u16, name: &str, kind: TYPE) -> Result<Answer, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| Failure::Unheard("the name is too long".to_owned()))?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match read(&answer, id, name, kind) {
        Some(Read::Whole(answer)) => answer,
        Some(Read::Cut) | None => Err(Failure::Unheard("its answer can't be read".to_owned())),
    }
}

fn query(name: &str, kind: TYPE) -> Result<(u16, Vec<u8>), Failure> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| Failure::Unheard(error.to_string()))?;
    let id = u16::from_ne_bytes(id);
    let wrong = |error: simple_dns::SimpleDnsError| Failure::Told(format!("it can't be asked for: {error}").into());
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name).map_err(wrong)?, kind.into(), CLASS::IN.into(), false));
    *packet.opt_mut() = Some(OPT { udp_packet_size: UDP_SIZE, version: 0, opt_codes: Vec::new() });
    Ok((id, packet.build_bytes_vec().map_err(wrong)?))
}

enum Read {
    Whole(Result<Answer, Failure>),
    /// More is told over TCP.
    Cut,
}

/// `None` where it is no answer to this question.
fn read(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> Option<Read> {
    let packet = Packet::parse(bytes).ok()?;
    let question = packet.questions.first()?;
    let asked = question.qname.to_string().eq_ignore_ascii_case(name) && question.qtype == kind.into();
    if packet.id() != id || !asked || !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Read::Cut);
    }
    let code = packet.rcode();
    Some(Read::Whole(if code == RCODE::NoError {
        Ok(answer(&packet))
    } else if code == RCODE::NameError {
        Err(Failure::Told(Arc::from("no such name")))
    } else {
        Err(Failure::Unheard(format!("it answers {code:?}")))
    }))
}

fn answer(packet: &Packet<'_>) -> Answer {
    let mut answer = Answer::default();
    for record in packet.answers.iter().chain(&packet.additional_records) {
        let of = plain(&record.name);
        #[expect(clippy::wildcard_enum_match_arm, reason = "of some forty kinds three are asked for")]
        match &record.rdata {
            RData::SRV(SRV { priority, weight, port, target }) => {
                answer.records.push(Record { priority: *priority, weight: *weight, port: *port, target: plain(target) })
            }
            RData::A(a) => answer.addresses.push((of, Ipv4Addr::from(a.address).into())),
            RData::AAAA(aaaa) => answer.addresses.push((of, Ipv6Addr::from(aaaa.address).into())),
            _ => {}
        }
    }
    answer
}

/// Names are alike in any case.
fn plain(name: &Name<'_>) -> String {
    name.to_string().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> Record {
        Record { priority, weight, port, target: target.to_owned() }
    }

    fn told(records: &[Record], addresses: &[(&str, &str)], family: Family) -> Vec<String> {
        let addresses: Vec<_> = addresses.iter().map(|(of, ip)| ((*of).to_owned(), ip.parse().unwrap())).collect();
        match places(records, &addresses, family) {
            Ok(places) => places
                .into_iter()
                .map(|(name, Place { at, weight, backup })| format!("{name} {at} {weight:?} {backup:?}"))
                .collect(),
            Err(why) => vec![why.to_string()],
        }
    }

    #[test]
    fn records_lead_to_places_with_port_weight_and_who_is_a_backup() {
        let records = [record(10, 5, 80, "a"), record(10, 0, 81, "b"), record(20, 7, 80, "b")];
        let addresses = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("b", "fd00::2"), ("c", "10.0.0.3")];
        assert_eq!(
            told(&records, &addresses, Family::Either),
            [
                "10.0.0.1-80 10.0.0.1:80 Some(5) Some(false)",
                "10.0.0.2-80 10.0.0.2:80 Some(7) Some(true)",
                "10.0.0.2-81 10.0.0.2:81 Some(1) Some(false)",
            ]
        );
        assert_eq!(told(&records[1..2], &addresses, Family::Ipv6), ["fd00--2-81 [fd00::2]:81 None Some(false)"]);
        assert_eq!(told(&records[..1], &addresses, Family::Ipv6).len(), 1, "and why");
        assert_eq!(
            told(&[record(1, 65_535, 1, "a")], &addresses, Family::Ipv4),
            ["10.0.0.1-1 10.0.0.1:1 Some(1000) Some(false)"]
        );
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let (id, bytes) = query("_http._tcp.shop.test", TYPE::SRV).ok().unwrap();
        assert!(read(&bytes, id, "_http._tcp.shop.test", TYPE::SRV).is_none(), "a question");
        let mut packet = Packet::parse(&bytes).unwrap().into_reply();
        packet.questions = Packet::parse(&bytes).unwrap().questions;
        packet.set_flags(PacketFlag::RESPONSE);
        let reply = packet.build_bytes_vec().unwrap();
        let is_one = |id, name, kind| read(&reply, id, name, kind).is_some();
        assert!(is_one(id, "_HTTP._tcp.shop.test", TYPE::SRV));
        assert!(!is_one(id ^ 1, "_http._tcp.shop.test", TYPE::SRV), "another id");
        assert!(!is_one(id, "_http._tcp.shop.other", TYPE::SRV), "another name");
        assert!(!is_one(id, "_http._tcp.shop.test", TYPE::A), "another kind");
        for end in 0..reply.len() {
            assert!(read(&reply[..end], id, "_http._tcp.shop.test", TYPE::SRV).is_none(), "cut at {end}");
        }
        packet.set_flags(PacketFlag::TRUNCATION);
        let cut = packet.build_bytes_vec().unwrap();
        assert!(matches!(read(&cut, id, "_http._tcp.shop.test", TYPE::SRV), Some(Read::Cut)));
    }

    #[test]
    fn servers_are_read_as_the_system_does() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.1\nsearch a\nnameserver fe80::1%eth0\nnameserver x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n";
        let servers: Vec<_> = system_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fe80::1]:53", "10.0.0.2:53"]);
        assert_eq!(system_servers("").iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:53"]);
    }
}
