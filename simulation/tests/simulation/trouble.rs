//! What goes wrong, and what comes back.

use crate::{
    node::{Node, WORKERS, write_keys},
    random::Random,
    world::World,
};
use control::{
    config::Source,
    spec::{Backend, Key},
};
use std::sync::Arc;

impl World {
    pub(crate) fn start_what_is_dead(&mut self, at: usize) {
        let (seed, mono, unix) = (self.random.next(), self.mono, self.latest);
        let node = &mut self.nodes[at];
        if node.plane.is_none() && self.random.percent(70) {
            node.start_plane(seed, mono);
            self.tell(format!("{at}: a data plane starts"));
        }
        let node = &mut self.nodes[at];
        if node.admin.is_none() && self.random.percent(70) {
            let started = node.start_admin(unix);
            let generation = node.known.as_ref().map_or(0, |known| known.generation);
            self.tell(format!("{at}: an admin process starts: {started}, generation {generation}"));
        }
        let node = &mut self.nodes[at];
        if let Some(plane) = node.plane.as_mut().filter(|_| mono - node.plane_since >= 2_000) {
            plane.serve_by_snapshot();
        }
    }

    pub(crate) fn kill_admin(&mut self, at: usize) {
        if self.nodes[at].admin.is_some() {
            self.tell(format!("{at}: the admin process is killed"));
            self.nodes[at].kill_admin(&mut self.random);
        }
    }

    pub(crate) fn kill_plane(&mut self, at: usize) {
        if self.nodes[at].plane.is_some() {
            self.tell(format!("{at}: the data plane is killed"));
            self.nodes[at].kill_plane(&mut self.random);
            self.looked_at[at] = None;
        }
    }

    pub(crate) fn lose_power(&mut self, at: usize) {
        self.tell(format!("{at}: power is lost"));
        self.nodes[at].lose_power(&mut self.random);
        self.looked_at[at] = None;
    }

    pub(crate) fn cut(&mut self, at: usize) {
        if let Some(link) = self.nodes[at].links.iter_mut().find(|link| !link.is_cut) {
            let (to_plane, to_admin) =
                (self.random.below(link.to_plane.len() + 1), self.random.below(link.to_admin.len() + 1));
            link.cut(to_plane, to_admin);
            self.tell(format!("{at}: a link is cut; {to_plane} and {to_admin} lines still come"));
        }
    }

    /// No socket does that, and it is not to matter: what is under way to the data plane is lost, comes twice or too early.
    pub(crate) fn garble(&mut self, at: usize) {
        let Some(link) = self.nodes[at].links.iter_mut().find(|link| !link.sent.is_empty() && !link.is_cut) else {
            return;
        };
        let lines = &mut link.to_plane;
        let what = match (self.random.below(3), lines.len()) {
            (0, len @ 1..) => {
                lines.remove(self.random.below(len));
                "a line is lost"
            }
            (1, len @ 2..) => {
                lines.swap(self.random.below(len), len - 1);
                "a line comes late"
            }
            _ => {
                lines.push_back(Arc::clone(&link.sent[self.random.below(link.sent.len())]));
                "a line comes again"
            }
        };
        self.tell(format!("{at}: {what} on its way to the data plane"));
    }

    /// Both processes are killed, and the data plane comes back alone: what was answered until now is to be in its snapshot.
    pub(crate) fn leave_alone(&mut self, at: usize) {
        const PATIENCE: u64 = 2_000;
        self.kill_admin(at);
        self.kill_plane(at);
        let (seed, mono) = (self.random.next(), self.mono);
        self.nodes[at].start_plane(seed, mono);
        self.tell(format!("{at}: a data plane starts, and is alone"));
        self.pass_by(PATIENCE);
        let plane = self.nodes[at].plane.as_mut().expect("it has just started");
        plane.serve_by_snapshot();
        (0..WORKERS).for_each(|worker| plane.wake(worker));
    }

    pub(crate) fn pass(&mut self) {
        let millis = match self.random.below(10) {
            0..6 => self.random.range(1, 1_000),
            6..9 => self.random.range(1_000, 8_000),
            _ => self.random.range(8_000, 600_000),
        };
        self.pass_by(millis);
    }

    fn pass_by(&mut self, millis: u64) {
        self.tell(format!("{millis} ms pass"));
        (self.mono, self.unix) = (self.mono + millis, self.unix + millis);
        self.set_clocks();
        for node in &mut self.nodes {
            if let Some(admin) = &mut node.admin {
                admin.pass(millis);
            }
        }
    }

    pub(crate) fn jump(&mut self) {
        let millis = self.random.range(0, 900_000);
        let forward = self.random.percent(50);
        self.unix = if forward { self.unix + millis } else { self.unix - millis };
        self.tell(format!("the wall clock jumps {}{millis} ms", if forward { "" } else { "-" }));
        self.set_clocks();
    }

    pub(crate) fn check_health(&mut self, at: usize) {
        let Node { admin, alive, .. } = &mut self.nodes[at];
        if let Some(admin) = admin {
            admin.check(|_, name| alive.contains(name));
            self.tell(format!("{at}: checks are done"));
        }
    }

    pub(crate) fn change_backend(&mut self, at: usize) {
        let name = self.random.pick(&crate::command::NAMES);
        let alive = &mut self.nodes[at].alive;
        let now = if alive.remove(name) { "dies" } else { "is back" };
        if now == "is back" {
            alive.insert(name.to_owned());
        }
        self.tell(format!("{at}: backend {name} {now}"));
    }

    /// Keys are put into the files of all nodes as an operator has to: behind the first, and then before it.
    pub(crate) fn change_keys(&mut self) {
        if self.keys.len() < 3 && self.random.percent(60) {
            let fresh = key(&mut self.random);
            self.keys.push(fresh);
        } else {
            let last = self.keys.len() - 1;
            self.keys.swap(0, last);
            self.keys.truncate(2);
        }
        self.tell(format!("the keys files have {} keys", self.keys.len()));
        for node in &self.nodes {
            write_keys(&node.config.global.keys_path(), &self.keys);
        }
    }

    /// The configuration file of all nodes, which the next reload or start reads.
    pub(crate) fn change_file(&mut self) {
        if self.nodes[0].source() != Source::File {
            return;
        }
        let names: Vec<&str> = crate::command::NAMES.into_iter().filter(|_| self.random.percent(70)).collect();
        self.tell(format!("the files have {names:?}"));
        let backend = |name: &str| Backend {
            name: name.to_owned(),
            address: format!("10.0.0.{}:80", name.as_bytes()[0]),
            ..Backend::default()
        };
        for pool in self.nodes.iter_mut().flat_map(|node| &mut node.config.pools) {
            pool.backends = names.iter().map(|name| backend(name)).collect();
        }
    }
}

pub(crate) fn key(random: &mut Random) -> Key {
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_be_bytes());
    }
    Key(bytes)
}
