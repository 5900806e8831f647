//! What happens next: one thing at a time, whichever chance picks.

use crate::{
    answer::check_answer,
    browser::{Browser, Session},
    command::{Command, What},
    link::Link,
    node::{Node, Pending, UnderWay, WORKERS, pools},
    oracle::{self, Asks},
    random::Random,
    trouble::key,
};
use affinity::{choose::Outcome, choose::Unserved, table::Table};
use control::{
    config::Source,
    spec::{Key, OnDown},
};
use dataplane::simulation::{Request, Sent};
use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const BROWSERS: usize = 8;
const NODES: usize = 2;

pub(crate) struct World {
    pub(crate) random: Random,
    /// Milliseconds of the clock that only goes forward, and Unix milliseconds.
    pub(crate) mono: u64,
    pub(crate) unix: u64,
    /// The latest that it has ever been.
    pub(crate) latest: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) keys: Vec<Key>,
    pub(crate) numbers: u64,
    /// The table by which a node's sessions were last looked at.
    pub(crate) looked_at: Vec<Option<Table>>,
    pub(crate) trace: VecDeque<String>,
    pub(crate) digest: u64,
    pub(crate) folder: PathBuf,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut random = Random::new(seed);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("steadfast-sim-{}-{count}", std::process::id()));
        let source = if random.percent(70) { Source::Api } else { Source::File };
        let pools = pools(&mut random);
        let keys = vec![key(&mut random)];
        let nodes = (0..NODES).map(|at| Node::new(folder.join(at.to_string()), pools.clone(), source, &keys));
        let nodes = nodes.collect();
        let browsers = (0..BROWSERS).map(Browser::new).collect();
        Self {
            random,
            mono: 1_000,
            unix: 1_790_000_000_000,
            latest: 0,
            nodes,
            browsers,
            keys,
            numbers: 0,
            looked_at: vec![None; NODES],
            trace: VecDeque::new(),
            digest: 0,
            folder,
        }
    }

    /// The first start of what there is.
    pub(crate) fn begin_all(&mut self) {
        self.set_clocks();
        for at in 0..NODES {
            self.start_what_is_dead(at);
            if self.random.percent(70) {
                self.calm_down(at);
            }
        }
    }

    pub(crate) fn steps(&self) -> Vec<String> {
        self.trace.iter().cloned().collect()
    }

    /// Of all that happened.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn tell(&mut self, what: String) {
        let what = what.replace(self.folder.to_str().unwrap(), "DISK");
        self.digest = affinity::hash::mix64(self.digest ^ affinity::hash::name_hash(&what));
        if self.trace.len() >= 2_000 {
            self.trace.pop_front();
        }
        self.trace.push_back(what);
    }

    pub(crate) fn set_clocks(&mut self) {
        self.latest = self.latest.max(self.unix);
        admin::simulation::set_now(self.unix);
        dataplane::simulation::set_now((self.mono, self.unix));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn step(&mut self) {
        // Where what was picked can't happen now, something else does.
        const TRIES: usize = 8;
        let before = self.digest;
        for _ in 0..TRIES {
            self.try_step();
            if self.digest != before {
                break;
            }
        }
        self.look();
    }

    fn try_step(&mut self) {
        let at = self.random.below(NODES);
        match self.random.below(100) {
            0..18 => self.deliver_to_plane(at),
            18..31 => self.deliver_to_admin(at),
            31..42 => self.wake(at),
            42..50 => self.hear_worker(at),
            50..59 => self.turn(at),
            59..66 => self.command(at),
            66..76 => self.begin(at),
            76..86 => self.end(at),
            86..91 => self.start_what_is_dead(at),
            91..93 => self.pass(),
            93 => self.check_health(at),
            94 => self.change_backend(at),
            // A storm passes, and what was built up is put to use.
            95 if self.random.percent(30) => self.cut(at),
            96 | 97 => self.disturb(at),
            _ => self.calm_down(at),
        }
    }

    /// What is under way at a node comes about, and nothing else.
    fn calm_down(&mut self, at: usize) {
        for _ in 0..6 {
            self.deliver_to_plane(at);
            self.look();
            self.deliver_to_admin(at);
            for worker in 0..WORKERS {
                if let Some(plane) = &self.nodes[at].plane {
                    plane.wake(worker);
                }
                self.hear_worker(at);
            }
            self.turn(at);
            self.look();
        }
    }

    fn disturb(&mut self, at: usize) {
        match self.random.below(20) {
            0..4 => self.kill_admin(at),
            4..7 => self.kill_plane(at),
            7..9 => self.lose_power(at),
            9..13 => {
                let operations = self.random.range(0, 12);
                self.tell(format!("{at}: the admin process will die in {operations} writes"));
                self.nodes[at].disk.die_in(operations);
            }
            13 => {
                let is_full = !self.nodes[at].is_full && self.random.percent(70);
                self.tell(format!("{at}: the disk is {}", if is_full { "full" } else { "as before" }));
                self.nodes[at].is_full = is_full;
                self.nodes[at].disk.fill(is_full);
            }
            14 => self.jump(),
            15 => self.calm_down(at),
            16 => self.change_keys(),
            17 => self.change_file(),
            18 => self.garble(at),
            _ => {
                self.tell(format!("{at}: the data plane reports"));
                if let Some(plane) = &mut self.nodes[at].plane {
                    plane.tick();
                }
            }
        }
    }

    /// After each step.
    fn look(&mut self) {
        for at in 0..NODES {
            if !self.nodes[at].look() {
                self.tell(format!("{at}: the admin process died at a write"));
            }
            self.move_lines(at);
            self.take_answers(at);
            self.nodes[at].check_told();
            self.nodes[at].check_applied();
            self.look_at_tables(at);
        }
        if self.random.percent(3) {
            self.compare();
        }
        if self.random.percent(4) {
            let at = self.random.below(NODES);
            self.nodes[at].check_stored();
        }
    }

    /// What processes have written is under way.
    fn move_lines(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut said = Vec::new();
        for link in &mut node.links {
            link.take();
            if let (Some(admin), Some(id), false) = (&mut node.admin, link.admin_side, link.is_cut) {
                while let Some(line) = admin.say(id) {
                    said.push(format!(
                        "{at}: the admin process says to {id}: {}",
                        String::from_utf8_lossy(&line).trim()
                    ));
                    link.sent.push(Arc::clone(&line));
                    link.to_plane.push_back(line);
                }
            }
            // It has hung up by itself.
            let hung_up = node.plane.as_ref().is_none_or(|plane| !plane.is_connected());
            if link.plane_side.is_some() && hung_up && !link.is_cut {
                link.plane_side = None;
                link.cut(0, usize::MAX);
            }
        }
        node.links.retain(|link| !link.is_over());
        said.into_iter().for_each(|line| self.tell(line));
    }

    fn deliver_to_plane(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(plane) = &mut node.plane else { return };
        if !plane.is_connected() {
            if node.admin.is_some() {
                let number = self.number();
                self.tell(format!("{at}: the data plane connects as {number}"));
                let node = &mut self.nodes[at];
                let stream = node.plane.as_mut().unwrap().connect(number).unwrap();
                node.links.push(Link::new(number, stream));
            }
            return;
        }
        let Some(link) = node.links.iter_mut().find(|link| link.plane_side.is_some()) else { return };
        let number = link.plane_side.unwrap();
        if let Some(line) = link.to_plane.pop_front() {
            plane.hear_admin(number, &line).unwrap();
            let generation = plane.snapshot().generation;
            self.tell(format!("{at}: the data plane hears of generation {generation}"));
        } else if link.is_cut {
            link.plane_side = None;
            plane.lose(number);
            self.tell(format!("{at}: the data plane hears that {number} is cut"));
        }
    }

    fn deliver_to_admin(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(admin) = &mut node.admin else { return };
        let places: Vec<usize> = (0..node.links.len()).collect();
        let Some(place) = (!places.is_empty()).then(|| self.random.pick(&places)) else { return };
        let link = &mut node.links[place];
        let told = match (link.to_admin.pop_front(), link.admin_side) {
            (Some(line), None) if link.is_cut && link.plane_side.is_none() => {
                // Whoever said hello may be gone by now.
                link.admin_side = Some(admin.connect(&line).unwrap());
                "hears a hello of one that is gone".to_owned()
            }
            (Some(line), None) => {
                let id = admin.connect(&line).unwrap();
                link.admin_side = Some(id);
                format!("hears a hello, and calls it {id}")
            }
            (Some(line), Some(id)) => {
                admin.hear(id, &line).unwrap();
                format!("hears {}", String::from_utf8_lossy(&line[..line.len().min(60)]).trim())
            }
            (None, Some(id)) if link.is_cut => {
                link.admin_side = None;
                admin.disconnect(id);
                format!("hears that {id} is cut")
            }
            (None, _) => return,
        };
        self.tell(format!("{at}: the admin process {told}"));
    }

    fn wake(&mut self, at: usize) {
        let worker = self.random.below(WORKERS);
        if let Some(plane) = &self.nodes[at].plane {
            let before = plane.table(worker, |table| table.generation);
            plane.wake(worker);
            let now = plane.table(worker, |table| table.generation);
            if now > before {
                self.tell(format!("{at}: worker {worker} wakes, and is at {now}"));
            }
        }
    }

    fn hear_worker(&mut self, at: usize) {
        if let Some(plane) = &mut self.nodes[at].plane
            && plane.hear_worker()
        {
            self.tell(format!("{at}: the control thread hears a worker"));
        }
    }

    fn turn(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Some(admin) = node.admin.as_mut().filter(|admin| admin.waiting() > 0) {
            admin.turn();
            self.tell(format!("{at}: the store's turn"));
        }
    }

    fn command(&mut self, at: usize) {
        if self.nodes[at].pending.is_some() || self.nodes[at].admin.is_none() {
            return;
        }
        let (command, number) = (Command::random(&mut self.random), self.number());
        let (call, body) = command.call();
        self.tell(format!("{at}: call {number}: {call} {body}"));
        let node = &mut self.nodes[at];
        let admin = node.admin.as_mut().unwrap();
        let before = admin.snapshot();
        if let What::Reload = command.what {
            admin.set_file(node.config.clone());
        }
        admin.call(number, &call, &body);
        let file = node.config.clone();
        node.pending = Some(Pending { number, command, before, file });
    }

    fn take_answers(&mut self, at: usize) {
        while let Some(answer) = self.nodes[at].admin.as_mut().and_then(|admin| admin.answer()) {
            let [generation, applied, detail] =
                ["generation", "applied", "detail"].map(|name| answer.body[name].to_string());
            self.tell(format!("{at}: answer {}: {} {generation} {applied} {detail}", answer.number, answer.status));
            let Some(pending) = self.nodes[at].pending.take_if(|pending| pending.number == answer.number) else {
                panic!("nobody waits for {answer:?}");
            };
            check_answer(&mut self.nodes[at], pending, &answer, self.latest);
            if answer.status < 300 && self.random.percent(5) {
                self.leave_alone(at);
            }
        }
    }

    fn begin(&mut self, at: usize) {
        let (browser, worker) = (self.random.below(BROWSERS), self.random.below(WORKERS));
        let node = &self.nodes[at];
        let Some(plane) = &node.plane else { return };
        if node.under_way.iter().any(|other| other.browser == browser) {
            return;
        }
        plane.tick_worker(worker);
        let Browser { client, cookie, session } = &self.browsers[browser];
        let began = plane.begin(worker, &Request { pool: "shop", cookie: cookie.as_deref(), client: *client });
        let now = self.seconds();
        let session = session.clone().filter(|session| {
            plane.table(worker, |table| {
                table.pool("shop").is_some_and(|pool| oracle::is_valid(table, pool, session, now))
            })
        });
        let was_there = session.as_ref().is_some_and(|session| {
            let backends = |table: &Table| {
                table.pool("shop").is_some_and(|pool| pool.by_name(session.backend.as_bytes()).is_some())
            };
            plane.table(worker, backends)
        });
        match began {
            Ok(exchange) => {
                let to = plane.chosen(worker, &exchange);
                self.tell(format!("{at}: browser {browser} asks worker {worker}, which chooses {to:?}"));
                let under_way = UnderWay { browser, worker, exchange, session, was_there, tried: Vec::new() };
                self.nodes[at].under_way.push(under_way);
            }
            Err(unserved) => {
                self.tell(format!("{at}: browser {browser} asks worker {worker}: {unserved:?}"));
                self.check_unserved(at, worker, unserved, session.is_some(), &[]);
            }
        }
    }

    fn end(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.under_way.is_empty() {
            return;
        }
        let place = self.random.below(node.under_way.len());
        let UnderWay { browser, worker, exchange, session, was_there, mut tried } = node.under_way.remove(place);
        let plane = node.plane.as_ref().expect("what is under way ends with it");
        plane.tick_worker(worker);
        let chosen = plane.chosen(worker, &exchange);
        if let Some(dead) = chosen.filter(|chosen| !node.alive.contains(chosen)) {
            tried.push(dead.clone());
            let failed = plane.fail(worker, exchange);
            self.tell(format!("{at}: browser {browser} at worker {worker}: {dead} is dead"));
            match failed {
                Ok(exchange) => {
                    self.nodes[at].under_way.push(UnderWay { browser, worker, exchange, session, was_there, tried });
                }
                Err(None) => {}
                Err(unserved) => self.check_unserved(at, worker, unserved, session.is_some(), &tried),
            }
            return;
        }
        match plane.send(worker, exchange) {
            Ok(sent) => {
                self.tell(format!("{at}: browser {browser} is sent to {sent:?}"));
                self.check_sent(at, (browser, worker), &sent, session, (&tried, was_there));
            }
            Err(unserved) => {
                self.tell(format!("{at}: browser {browser} at worker {worker}: {unserved:?}"));
                self.check_unserved(at, worker, unserved, session.is_some(), &tried);
            }
        }
    }

    fn check_sent(
        &mut self,
        at: usize,
        who: (usize, usize),
        sent: &Sent,
        session: Option<Session>,
        how: (&[String], bool),
    ) {
        let ((browser, worker), now) = (who, sent.chosen_at);
        let node = &self.nodes[at];
        assert!(sent.generation >= node.applied, "{} was answered as applied: {sent:?}", node.applied);
        let plane = node.plane.as_ref().unwrap();
        let key = plane.table(worker, |table| {
            let pool = table.pool("shop").expect("it was sent");
            oracle::check_sent(pool, session.as_ref(), how, sent);
            table.keys[0].id
        });
        let Some(cookie) = sent.cookie() else {
            assert!(session.is_some(), "a session that begins is told where it is");
            return;
        };
        let browser = &mut self.browsers[browser];
        browser.cookie = Some(cookie.as_bytes().to_vec());
        let begins = matches!(sent.outcome, Outcome::New | Outcome::Lost);
        let issued_at = session.as_ref().filter(|_| !begins).map_or(now, |old| old.issued_at);
        browser.session = Some(match (sent.outcome, session) {
            (Outcome::Spilled { .. } | Outcome::Released { .. }, Some(old)) => Session { seen_at: now, key, ..old },
            _ => Session { backend: sent.backend.clone(), incarnation: sent.incarnation, issued_at, seen_at: now, key },
        });
    }

    fn check_unserved(&self, at: usize, worker: usize, why: Option<Unserved>, is_valid: bool, tried: &[String]) {
        let plane = self.nodes[at].plane.as_ref().unwrap();
        plane.table(worker, |table| {
            let Some(pool) = table.pool("shop") else {
                assert!(table.generation == 0, "there is a table and no pool");
                return;
            };
            if let Some(Unserved::PinnedDown(_)) = why {
                assert!(is_valid && pool.settings.affinity.on_down == OnDown::Fail, "{why:?}");
                return;
            }
            assert!(why.is_some() || !tried.is_empty(), "there is no limit that a request could wait for");
            oracle::check_unserved(pool, tried, |slot| plane.is_marked(worker, slot));
        });
    }

    fn asks(&self) -> Asks {
        self.browsers.iter().map(|browser| (browser.client, browser.cookie.clone())).collect()
    }

    /// When a node's first worker has another table, those sessions alone may have moved that had to.
    fn look_at_tables(&mut self, at: usize) {
        let Some(plane) = &self.nodes[at].plane else { return };
        let known = self.looked_at[at].as_ref().map(|table| table.generation);
        let table = plane.table(0, |table| (known != Some(table.generation)).then(|| table.clone()));
        let Some(table) = table else { return };
        if let Some(before) = &self.looked_at[at] {
            assert!(before.generation < table.generation, "generation {} falls", before.generation);
            oracle::check_moves(before, &table, &self.asks(), self.seconds());
        }
        self.looked_at[at] = Some(table);
    }

    /// All that have the same decide alike.
    fn compare(&self) {
        let (asks, now) = (self.asks(), self.seconds());
        let decided: Vec<_> = self.nodes.iter().map(|node| oracle::check_alike(node, &asks, now)).collect();
        let [Some(one), Some(other)] = &decided[..] else { return };
        let planes = self.nodes.iter().filter_map(|node| node.plane.as_ref());
        let has: Vec<_> = planes.map(|plane| (&plane.snapshot().desired, &plane.snapshot().observed)).collect();
        if has[0] == has[1] {
            assert_eq!(one, other, "two nodes that have the same");
        }
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.unix / 1_000).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        admin::simulation::forget_disks();
        drop(fs::remove_dir_all(&self.folder));
    }
}
