//! One machine: a disk, an admin process, a data plane and what lies between them.

use crate::{
    browser::Session,
    command::{Command, NAMES, ends},
    link::Link,
    random::Random,
};
use admin::simulation::{Admin, Disk, pools_on, put_disk};
use control::{
    config::{Config, Global, Membership, Source},
    desired::{Member, PoolState, SEED_INCARNATION, Snapshot},
    spec::{Affinity, Backend, Check, Cookie, HealthCheck, Key, Listener, Mode, OnDown, Pool, Span},
};
use dataplane::simulation::{Exchange, Process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) const WORKERS: usize = 3;

/// A command under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) number: u64,
    pub(crate) command: Command,
    /// The state when it began.
    pub(crate) before: Arc<Snapshot>,
    /// The configuration file at that time.
    pub(crate) file: Config,
}

/// A request whose connection is being made.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) browser: usize,
    pub(crate) worker: usize,
    pub(crate) exchange: Exchange,
    /// The session of its token, where that counts.
    pub(crate) session: Option<Session>,
    /// That session's backend was there when it came.
    pub(crate) was_there: bool,
    /// Where it has failed.
    pub(crate) tried: Vec<String>,
}

pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) disk: Disk,
    pub(crate) admin: Option<Admin>,
    pub(crate) plane: Option<Process>,
    /// When the data plane started, by the clock that only goes forward.
    pub(crate) plane_since: u64,
    pub(crate) links: Vec<Link>,
    pub(crate) pending: Option<Pending>,
    /// One that the store has failed at: it may be there.
    pub(crate) doubtful: Option<Command>,
    /// What the admin process had when it was last alive.
    pub(crate) known: Option<Arc<Snapshot>>,
    /// No generation above this one was ever seen here.
    pub(crate) highest: u64,
    /// What was answered as applied: no worker acts on an older generation.
    pub(crate) applied: u64,
    /// The same without what checks alone have found, which a data plane writes down a second later.
    pub(crate) lasting: u64,
    pub(crate) under_way: Vec<UnderWay>,
    /// Backends that answer.
    pub(crate) alive: BTreeSet<String>,
    pub(crate) life: u64,
    pub(crate) is_full: bool,
}

/// The pools of a run: one by cookies, one by addresses.
pub(crate) fn pools(random: &mut Random) -> Vec<Pool> {
    let backend = |name: &str| Backend {
        name: name.to_owned(),
        address: format!("10.0.0.{}:80", name.as_bytes()[0]),
        ..Backend::default()
    };
    let backends: Vec<_> = NAMES[..4].iter().map(|name| backend(name)).collect();
    let span = |seconds: u64| Some(Span::from_secs(seconds));
    let cookie = Cookie {
        idle_timeout: if random.percent(50) { span(random.range(30, 3_000)) } else { None },
        lifetime: if random.percent(30) { span(random.range(60, 6_000)) } else { None },
        ..Cookie::default()
    };
    let on_down = random.pick(&[OnDown::Repin, OnDown::Repin, OnDown::Spill, OnDown::Fail]);
    let health = HealthCheck { check: Check::Tcp, fail_open: random.percent(20), ..HealthCheck::default() };
    let by_cookie = Affinity { cookie, on_down, ..Affinity::default() };
    let by_address = Affinity { mode: Mode::SourceIp, ..Affinity::default() };
    let pool = |name: &str, affinity| Pool {
        name: name.to_owned(),
        affinity,
        health: health.clone(),
        backends: backends.clone(),
        ..Pool::default()
    };
    vec![pool("addresses", by_address), pool("shop", by_cookie)]
}

pub(crate) fn write_keys(path: &Path, keys: &[Key]) {
    use std::os::unix::fs::PermissionsExt;
    let text: String = keys.iter().map(|key| format!("{}\n", key.to_base64())).collect();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Node {
    pub(crate) fn new(folder: PathBuf, pools: Vec<Pool>, source: Source, keys: &[Key]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let global = Global { state_dir: folder.clone(), runtime_dir: folder.clone(), ..Global::default() };
        let listener = Listener {
            name: "web".into(),
            bind: "127.0.0.1:8080".into(),
            pool: Some("shop".into()),
            ..Listener::default()
        };
        let membership = Membership { source, ..Membership::default() };
        let config = Config { global, membership, listeners: vec![listener], pools, ..Config::default() };
        write_keys(&config.global.keys_path(), keys);
        let disk = Disk::default();
        put_disk(&folder, &disk);
        Self {
            config,
            disk,
            admin: None,
            plane: None,
            plane_since: 0,
            links: Vec::new(),
            pending: None,
            doubtful: None,
            known: None,
            highest: 0,
            applied: 0,
            lasting: 0,
            under_way: Vec::new(),
            alive: NAMES.iter().map(|name| (*name).to_owned()).collect(),
            life: 0,
            is_full: false,
        }
    }

    pub(crate) fn source(&self) -> Source {
        self.config.membership.source
    }

    /// Starts the admin process. False where it died over that.
    pub(crate) fn start_admin(&mut self, unix: u64) -> bool {
        self.life = self.disk.life();
        match Admin::start(self.config.clone()) {
            Ok(admin) => {
                let now = admin.snapshot();
                self.check_recovered(&now, unix);
                self.known = Some(Arc::clone(&now));
                self.highest = now.generation;
                self.admin = Some(admin);
                true
            }
            Err(error) => {
                assert!((self.disk.life() != self.life) || self.is_full, "it can't start: {error}");
                self.disk.kill();
                false
            }
        }
    }

    /// What was there before is there, wholly; what was not answered may be.
    fn check_recovered(&mut self, now: &Snapshot, unix: u64) {
        let generation = now.generation;
        assert!(generation > self.highest, "generation {generation} after {}", self.highest);
        let doubts: Vec<Command> =
            self.pending.take().map(|pending| pending.command).into_iter().chain(self.doubtful.take()).collect();
        let Some(known) = self.known.take() else { return };
        for pool in ["shop", "addresses"] {
            let before = &known.desired.pools[pool].members;
            let after = &now.desired.pools.get(pool).unwrap_or_else(|| panic!("pool {pool} is gone")).members;
            match self.source() {
                Source::Api | Source::Etcd => check_members(pool, (before, after), &doubts, unix, "after a crash"),
                Source::File => check_file(&self.config, pool, after),
            }
        }
    }

    /// Notes what the admin process has by now; where it is dead, it is gone with all that nobody has seen.
    pub(crate) fn look(&mut self) -> bool {
        if (self.disk.life() != self.life) && self.admin.is_some() {
            self.kill_admin(&mut Random::new(self.life));
            return false;
        }
        if let Some(admin) = &self.admin {
            let now = admin.snapshot();
            assert!(now.generation >= self.highest, "generation {} after {}", now.generation, self.highest);
            self.highest = now.generation;
            self.known = Some(now);
        }
        true
    }

    pub(crate) fn kill_admin(&mut self, random: &mut Random) {
        self.disk.kill();
        self.admin = None;
        for link in &mut self.links {
            link.admin_side = None;
            // What was written before still comes.
            let (come, lost) = (random.below(link.to_plane.len() + 1), 0);
            link.cut(come, lost);
        }
    }

    pub(crate) fn start_plane(&mut self, seed: u64, mono: u64) {
        self.plane = Some(Process::start(self.config.global.clone(), WORKERS, seed).unwrap());
        self.plane_since = mono;
    }

    pub(crate) fn kill_plane(&mut self, random: &mut Random) {
        self.plane = None;
        self.applied = self.applied.min(self.lasting);
        self.under_way.clear();
        for link in &mut self.links {
            link.take();
            link.plane_side = None;
            let (lost, come) = (0, random.below(link.to_admin.len() + 1));
            link.cut(lost, come);
        }
    }

    /// Both processes die, and what was not synced may be gone in parts.
    pub(crate) fn lose_power(&mut self, random: &mut Random) {
        self.kill_admin(random);
        self.kill_plane(random);
        self.links.clear();
        let kept = random.pick(&[0, 50, 50, 90, 100]);
        self.disk.lose_power(|| random.percent(kept));
        let snapshot = self.config.global.snapshot_path();
        if let Ok(text) = fs::read(&snapshot) {
            // It is not synced: an older one, half of one, an empty one, or none.
            match random.below(4) {
                0 => {}
                1 => fs::write(&snapshot, &text[..random.below(text.len() + 1)]).unwrap(),
                2 => fs::write(&snapshot, b"").unwrap(),
                _ => fs::remove_file(&snapshot).unwrap(),
            }
        }
        // The store has what was answered, and comes first; a data plane that finds no admin process has the rest.
        (self.applied, self.lasting) = (0, 0);
    }

    /// No worker that serves acts on less than was answered as applied.
    pub(crate) fn check_applied(&self) {
        let Some(plane) = &self.plane else { return };
        for worker in 0..WORKERS {
            let acts = plane.table(worker, |table| table.generation);
            assert!(acts == 0 || acts >= self.applied, "worker {worker} is at {acts}, {} was answered", self.applied);
        }
    }

    /// A generation is the same for both processes, however the data plane came to it.
    pub(crate) fn check_told(&self) {
        let (Some(admin), Some(plane)) = (&self.admin, &self.plane) else { return };
        let (said, heard) = (admin.snapshot(), plane.snapshot());
        if said.generation == heard.generation {
            assert_eq!(heard, &*said, "the data plane has another generation {}", said.generation);
        }
    }

    /// What is told in memory is on the disk, and nothing else; asked where nothing is under way.
    pub(crate) fn check_stored(&self) {
        let Some(admin) = &self.admin else { return };
        let is_quiet = self.pending.is_none() && self.doubtful.is_none() && admin.waiting() == 0 && !self.is_full;
        if !is_quiet || self.source() == Source::File {
            return;
        }
        let now = admin.snapshot();
        let (bound, pools) = pools_on(&self.disk, &self.config.global.store_path()).unwrap();
        assert!(bound >= now.generation, "generation {} and no more than {bound} reserved", now.generation);
        assert_eq!(pools, now.desired.pools, "what is stored is not what is told");
    }
}

/// Members are what they were, but for what these commands and ends of drains lead to.
pub(crate) fn check_members(
    pool: &str,
    (before, after): (&BTreeMap<String, Member>, &BTreeMap<String, Member>),
    commands: &[Command],
    unix: u64,
    when: &str,
) {
    for name in NAMES {
        let (was, is) = (before.get(name), after.get(name));
        // What a drain ends with, before the command or after it.
        let ended = was.zip(is).map(|(was, is)| Member { admin_state: is.admin_state, drain: is.drain, ..was.clone() });
        let ended = ended.filter(|ended| ends(was, Some(ended), unix));
        let leads = |command: &Command| {
            let is_it = (command.pool, &*command.backend) == (pool, name);
            is_it
                && (command.leads(was, is)
                    || ends(was, None, unix) && command.leads(None, is)
                    || ended.is_some() && command.leads(ended.as_ref(), is))
        };
        let holds = was == is || commands.iter().any(leads) || ends(was, is, unix);
        assert!(holds, "{when}: {pool}/{name} was {was:?} and is {is:?}; {commands:?}");
    }
}

/// The members are those of the file.
pub(crate) fn check_file(config: &Config, pool: &str, members: &BTreeMap<String, Member>) {
    let wanted = config.pools.iter().find(|each| each.name == pool).unwrap();
    let wanted = PoolState::seed(wanted.clone(), SEED_INCARNATION).members;
    assert_eq!(*members, wanted, "pool {pool} is not as the file has it");
}
