//! How evenly each policy spreads load, with users of whom some ask far more than others and many share an address.

use crate::{
    Report, Scale,
    plot::bars,
    random::{Random, Zipf},
    table::Markdown,
};
use affinity::{
    balance::View,
    choose::{Asked, Pin, choose},
    imbalance::{Load, imbalance},
    marker::address_key,
    table::PoolTable,
    wheel::Turn,
};
use control::spec::{Balance, Mode, OnOverload, Pool};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    error::Error,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Who comes.
#[derive(Clone, Copy, Debug)]
struct Users {
    sessions: u64,
    backends: usize,
    /// Virtual seconds in which the sessions begin.
    span: f64,
}

/// Requests of a session: Pareto from 2, of infinite variance but for the end at 2,000; 9 on the average.
const REQUESTS: (f64, f64, f64) = (1.2, 2.0, 2_000.0);
/// Seconds between two requests of a user, on the average.
const PAUSE: f64 = 20.0;
/// One session in a thousand is a program: 1,000 requests, three in a second.
const PROGRAMS: (u64, u32, f64) = (1_000, 1_000, 0.33);
/// One session in five comes through one of fifty gateways, the n-th n times as small as the first.
const BEHIND_GATEWAYS: (u64, usize) = (5, 50);
/// Seconds that a request keeps a backend busy, on the average: exponential.
const SERVICE: f64 = 0.05;
/// The load is looked at over so many seconds each.
const WINDOW: f64 = 60.0;
/// Windows at the begin and at the end that don't count: there are fewer sessions.
const MARGIN: usize = 10;

struct Session {
    key: u64,
    address: u64,
    home: Option<u16>,
    left: u32,
    pause: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done(u16),
    Asks(u32),
}

#[derive(Default)]
struct InFlight {
    backends: Vec<u32>,
    all: u32,
}

impl View for InFlight {
    fn in_flight(&self, backend: u16) -> u32 {
        self.backends[usize::from(backend)]
    }

    fn pool_in_flight(&self) -> u32 {
        self.all
    }

    fn is_full(&self, _: u16) -> bool {
        false
    }

    fn is_marked_down(&self, _: u16) -> bool {
        false
    }

    fn was_tried(&self, _: u16) -> bool {
        false
    }
}

struct Simulation<'a> {
    pool: &'a PoolTable,
    users: Users,
    random: Random,
    gateways: Zipf,
    view: InFlight,
    turn: Turn,
    sessions: Vec<Session>,
    free: Vec<u32>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    /// Requests of each backend in the window.
    window: Vec<u32>,
    found: Found,
}

/// What was found: of each window, in order, and over all.
#[derive(Default)]
struct Found {
    max_over_mean: Vec<f64>,
    gini: Vec<f64>,
    requests: u64,
    away: u64,
}

impl Found {
    fn mean(values: &[f64]) -> f64 {
        let kept = values.get(MARGIN..values.len().saturating_sub(MARGIN)).unwrap_or_default();
        kept.iter().sum::<f64>() / kept.len().max(1) as f64
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

impl Simulation<'_> {
    fn run(mut self) -> Found {
        let between = self.users.span / self.users.sessions as f64;
        let end = micros(self.users.span);
        let (mut arrival, mut look) = (0.0, micros(WINDOW));
        loop {
            let next = self.events.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            let now = next.min(micros(arrival));
            if now >= look {
                self.look();
                look += micros(WINDOW);
                continue;
            }
            if now >= end {
                return self.found;
            }
            if micros(arrival) <= next {
                arrival += self.random.exponential(between);
                let session = self.begin();
                self.ask(now, session);
                continue;
            }
            match self.events.pop() {
                Some(Reverse((_, Event::Done(backend)))) => {
                    self.view.backends[usize::from(backend)] -= 1;
                    self.view.all -= 1;
                }
                Some(Reverse((now, Event::Asks(session)))) => self.ask(now, session),
                None => {}
            }
        }
    }

    fn begin(&mut self) -> u32 {
        let random = &mut self.random;
        let is_program = random.below(PROGRAMS.0) == 0;
        let (alpha, least, most) = REQUESTS;
        let left = if is_program { PROGRAMS.1 } else { random.pareto(alpha, least, most) as u32 };
        let is_behind = random.below(BEHIND_GATEWAYS.0) == 0;
        let host = if is_behind { self.gateways.draw(random) as u32 } else { random.bits() as u32 | 1 << 31 };
        let address = address_key(IpAddr::V4(Ipv4Addr::from_bits(host)), self.pool.settings.affinity.source_ip);
        let pause = if is_program { PROGRAMS.2 } else { PAUSE };
        let session = Session { key: random.bits(), address, home: None, left, pause };
        if let Some(free) = self.free.pop() {
            self.sessions[free as usize] = session;
            return free;
        }
        self.sessions.push(session);
        (self.sessions.len() - 1) as u32
    }

    fn ask(&mut self, now: u64, number: u32) {
        let session = &mut self.sessions[number as usize];
        let (pin, key) = match self.pool.settings.affinity.mode {
            Mode::SourceIp => (Pin::Hashed, session.address),
            Mode::None => (Pin::Free, session.key),
            Mode::Cookie | Mode::AppCookie | Mode::Header | Mode::Query => {
                let home = session.home.map(|backend| Pin::At { backend, incarnation: None });
                (home.unwrap_or(Pin::Absent), session.key)
            }
        };
        let asked = Asked { pin, key, random: self.random.bits(), now: 0, force: false, together: false, idle: None };
        let choice = choose(self.pool, &asked, &mut self.turn, &self.view).expect("all are up and have room");
        self.found.requests += 1;
        self.found.away += u64::from(session.home.is_some_and(|home| home != choice.backend));
        session.home.get_or_insert(choice.backend);
        let at = usize::from(choice.backend);
        self.view.backends[at] += 1;
        self.view.all += 1;
        self.window[at] += 1;
        session.left = session.left.saturating_sub(1);
        let (left, pause) = (session.left, session.pause);
        let done = now + micros(self.random.exponential(SERVICE));
        self.events.push(Reverse((done, Event::Done(choice.backend))));
        if left == 0 {
            self.free.push(number);
        } else {
            let next = done + micros(self.random.exponential(pause));
            self.events.push(Reverse((next, Event::Asks(number))));
        }
    }

    fn look(&mut self) {
        let loads = self.window.iter().map(|requests| Load { load: f64::from(*requests), weight: 1.0 });
        if let Some(found) = imbalance(loads) {
            self.found.max_over_mean.push(found.max_over_mean);
            self.found.gini.push(found.gini);
        }
        self.window.fill(0);
    }
}

fn run(settings: Pool, users: Users, seed: u64) -> Found {
    let mut table = bench::table(settings, users.backends);
    let pool: Arc<PoolTable> = table.pools.remove(0);
    let simulation = Simulation {
        pool: &pool,
        users,
        random: Random::new(seed),
        gateways: Zipf::new(BEHIND_GATEWAYS.1),
        view: InFlight { backends: vec![0; users.backends], all: 0 },
        turn: Turn::default(),
        sessions: Vec::new(),
        free: Vec::new(),
        events: BinaryHeap::new(),
        window: vec![0; users.backends],
        found: Found::default(),
    };
    simulation.run()
}

fn pool(mode: Mode, balance: Balance) -> Pool {
    let mut pool = Pool { balance, ..Pool::default() };
    pool.affinity.mode = mode;
    pool
}

/// A policy with its name.
fn policies() -> Vec<(&'static str, Pool)> {
    let bounded = |mut pool: Pool| {
        pool.affinity.on_overload = OnOverload::Spill;
        pool.load_bound = Some(1.25);
        pool
    };
    vec![
        ("none, round-robin", pool(Mode::None, Balance::RoundRobin)),
        ("cookie, round-robin", pool(Mode::Cookie, Balance::RoundRobin)),
        ("cookie, random", pool(Mode::Cookie, Balance::Random)),
        ("cookie, p2c", pool(Mode::Cookie, Balance::P2c)),
        ("cookie, least-requests", pool(Mode::Cookie, Balance::LeastRequests)),
        ("cookie, ring", pool(Mode::Cookie, Balance::Ring)),
        ("source-ip", pool(Mode::SourceIp, Balance::RoundRobin)),
        ("cookie, round-robin, spill over 1.25", bounded(pool(Mode::Cookie, Balance::RoundRobin))),
        ("source-ip, spill over 1.25", bounded(pool(Mode::SourceIp, Balance::RoundRobin))),
    ]
}

pub(crate) fn simulate(scale: Scale, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let users = match scale {
        Scale::Short => Users { sessions: 100_000, backends: 20, span: 3_600.0 },
        Scale::Full => Users { sessions: 1_000_000, backends: 100, span: 7_200.0 },
    };
    let large = Users { sessions: 10_000_000, backends: 10_000, span: 7_200.0 };
    let mut table =
        Markdown::new(&["backends", "policy", "max/mean", "capacity left", "Gini", "requests away from home"]);
    let mut plot = Vec::new();
    let mut add = |users: Users, name: &str, settings: &Pool, seed| {
        let found = run(settings.clone(), users, seed);
        let (most, gini) = (Found::mean(&found.max_over_mean), Found::mean(&found.gini));
        let away = found.away as f64 / found.requests.max(1) as f64;
        let is_free = settings.affinity.mode == Mode::None;
        let away = if is_free { "all go anywhere".to_owned() } else { format!("{:.2} %", 100.0 * away) };
        let cells = [format!("{most:.2}"), format!("{:.0} %", 100.0 / most), format!("{gini:.3}"), away];
        table.row(&[&users.backends.to_string(), name, &cells[0], &cells[1], &cells[2], &cells[3]]);
        most
    };
    for (name, settings) in &policies() {
        plot.push(((*name).to_owned(), add(users, name, settings, report.seed)));
    }
    if scale == Scale::Full {
        // Least-requests looks at each backend for each new session, which takes hours here.
        for (name, settings) in policies().iter().filter(|(_, pool)| pool.balance != Balance::LeastRequests).take(4) {
            add(large, name, settings, report.seed);
        }
    }
    let Users { sessions, backends, span } = users;
    let text = format!(
        "{sessions} sessions begin within {:.0} hours, by chance, on {backends} equal backends{}. A session makes 2 to 2,000 requests (Pareto, alpha 1.2), \
         20 s apart on the average; one in a thousand is a program with 1,000 requests, three a second; one in five comes through one of 50 gateways \
         (Zipf). A request keeps its backend busy for 50 ms on the average. Max/mean and Gini are those of the requests per backend within a minute, \
         mean of all minutes; the first line is free balancing, and so what chance alone does. A load bound looks at requests in flight, which are fewer than one per \
         backend here: that is why so many go elsewhere.",
        span / 3_600.0,
        if scale == Scale::Full { ", and 10 million on 10,000" } else { "" }
    );
    let title = format!("Busiest backend over the mean, requests per minute, {backends} backends");
    report.section("imbalance", &text, &table, |path| bars(path, &title, "max/mean; 1 is even", 1.0, &plot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stickiness_costs_and_addresses_cost_more() {
        let users = Users { sessions: 20_000, backends: 10, span: 3_600.0 };
        let of = |mode| Found::mean(&run(pool(mode, Balance::RoundRobin), users, 1).max_over_mean);
        let (free, cookie, address) = (of(Mode::None), of(Mode::Cookie), of(Mode::SourceIp));
        assert!(1.0 <= free && free < cookie && cookie < address, "{free} {cookie} {address}");
    }
}
