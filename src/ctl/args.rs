use clap::{Args, Subcommand, ValueEnum, builder::PossibleValue};
use control::spec::Span;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Ctl {
    /// The admin API: address:port, https://host:port, or unix:PATH. [default: 127.0.0.1:9090]
    #[arg(long, global = true, env = "STEADFAST_ADMIN", value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Many nodes, each as --admin takes it: the same command at all of them. [env: STEADFAST_NODES]
    #[arg(long, global = true, value_name = "ADDRESS,…", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
    /// A file with the bearer token of the admin API, the same at all nodes.
    #[arg(long, global = true, env = "STEADFAST_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities whose certificates are taken at https:// addresses, in PEM; this machine's own unless set.
    #[arg(long, global = true, env = "STEADFAST_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Take the address and the token from this configuration file, where the options above do not say.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print what the API answers, as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// How the whole of it is: generation, data planes, pools.
    Status,
    /// The pools with their backends counted.
    Pools,
    /// The backends of a pool.
    Backends {
        /// The pool.
        pool: String,
    },
    /// What stickiness costs a pool: imbalance, sessions that left their pin and why.
    Stickiness {
        /// The pool.
        pool: String,
        /// Over all nodes that etcd lists, each session once; asked of one of them.
        #[arg(long)]
        cluster: bool,
    },
    /// Move sessions from backends that have more than their share to those that have less.
    Rebalance(Rebalance),
    /// Let a share of the sessions go, and see whether the backends are stateless by now. Without a plan: how that goes.
    Release(Release),
    /// Add a backend, or change the address or weight of one.
    Add {
        #[command(flatten)]
        backend: Backend,
        /// host:port
        address: String,
        /// 0 to 1000; 0 gets no new sessions. [default: 1]
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
        /// It gets new sessions only while none of the others can take any.
        #[arg(long)]
        backup: bool,
    },
    /// Set the weight of a backend.
    Weight {
        #[command(flatten)]
        backend: Backend,
        /// 0 to 1000; 0 gets no new sessions.
        weight: u32,
    },
    /// Give a backend no new sessions; its own stay.
    Drain {
        #[command(flatten)]
        backend: Backend,
        #[command(flatten)]
        how: How,
        /// Return only when no session, no request and no tunnel is left.
        #[arg(long)]
        wait: bool,
        /// The longest to wait.
        #[arg(long, default_value = "60s", value_name = "DURATION", requires = "wait")]
        timeout: Span,
    },
    /// Restart the backends of a pool, one after the other: drain, wait, run a command, wait for health, activate.
    RollingRestart(Rolling),
    /// Take a backend back into service.
    Activate(Backend),
    /// Give a backend nothing at all; its sessions go elsewhere.
    Maintenance(Backend),
    /// Say that a backend was restarted: its old sessions begin anew.
    Reset(Backend),
    /// Remove a backend.
    Remove(Backend),
    /// What a change would move and lose, before it is made.
    Preview {
        /// The pool.
        pool: String,
        #[command(subcommand)]
        change: Change,
    },
    /// Say how a backend is, or leave that to the checks again.
    Health {
        #[command(flatten)]
        backend: Backend,
        /// What to say of it.
        #[arg(value_enum)]
        health: Pushed,
    },
    /// Where a request would go, and why.
    Explain(Explain),
    /// Read the configuration file again.
    Reload,
    /// Have another data plane take over on the same sockets: the program that is installed, by the configuration file as it is.
    ///
    /// The one before goes on with what it has, for up to global.upgrade_timeout, and takes nobody new. Where the new one does not
    /// come up, the old one serves on, and the exit code is 1.
    Upgrade,
    /// The keys of the affinity tokens: what was seen of them, and whether an old one may go.
    Keys {
        #[command(subcommand)]
        change: Option<KeyChange>,
    },
    /// The same as `keys rotate`.
    #[command(hide = true)]
    RotateKeys,
    /// Follow what happens, an event a line.
    Events,
    /// See it live on the terminal: pools, backends, rates, sessions, drains; and drain or activate with a key.
    Top(Top),
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// The pool to begin with. [default: the first]
    pub(crate) pool: Option<String>,
    /// How long to wait from one look to the next, 250ms to 1m.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = interval)]
    pub(crate) interval: Span,
}

fn interval(text: &str) -> Result<Span, String> {
    let interval: Span = text.parse()?;
    let bounds = 250..=60_000;
    if bounds.contains(&interval.as_millis()) { Ok(interval) } else { Err("write 250ms to 1m".to_owned()) }
}

/// What is left out has the default that the API tells.
#[derive(Args, Debug, Default)]
pub(crate) struct Release {
    /// The pool.
    pub(crate) pool: String,
    /// Begin by the plan that there is by default: 1, 5, 10, 25, 50 and 100 %.
    #[arg(long)]
    pub(crate) begin: bool,
    /// Release this share of the sessions, in percent, and no more.
    #[arg(long, value_name = "PERCENT", conflicts_with = "steps")]
    pub(crate) percent: Option<f64>,
    /// Release these shares one after the other.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    pub(crate) steps: Vec<f64>,
    /// How long to hold each step at least. [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) hold: Option<Span>,
    /// The share of the released sessions, 0.005 to 1, that may come to harm unseen. [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) harm: Option<f64>,
    /// How likely it may stop by mere luck, 0.0001 to 0.2. [default: 0.01]
    #[arg(long, value_name = "PROBABILITY")]
    pub(crate) alpha: Option<f64>,
    /// A redirect to this path says that a session is not known.
    #[arg(long, value_name = "PATH")]
    pub(crate) login_path: Option<String>,
    /// The application's session cookie.
    #[arg(long, value_name = "NAME")]
    pub(crate) session_cookie: Option<String>,
    /// The response header that tells whether a cache was hit.
    #[arg(long, value_name = "NAME")]
    pub(crate) cache_header: Option<String>,
    /// What that header has where one was. [default: HIT]
    #[arg(long, value_name = "TEXT", requires = "cache_header")]
    pub(crate) cache_hit: Option<String>,
    /// End it: its sessions are back on their pins.
    #[arg(long, conflicts_with_all = ["begin", "percent", "steps", "hold", "harm", "alpha", "login_path", "session_cookie", "cache_header", "wait"])]
    pub(crate) stop: bool,
    /// Follow it until it has stopped (exit code 1) or has come to its end.
    #[arg(long)]
    pub(crate) wait: bool,
    /// The longest to wait. [default: no limit]
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub(crate) timeout: Option<Span>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyChange {
    /// Make a new key that seals; the old ones still open what they sealed.
    Rotate {
        /// Keys in all, the new one among them, 1 to 16; older ones are dropped. [default: 3]
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        /// Put it behind the one that seals, until all nodes have it: then `keys seal`.
        #[arg(long)]
        behind: bool,
    },
    /// Put a key first, so that it seals; the one that did opens.
    Seal {
        /// What the key is called.
        key: String,
    },
    /// Take a key away: its tokens open no more.
    Remove {
        /// What the key is called.
        key: String,
        /// Also where tokens of it may be left: their sessions begin anew.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// A drain; with a deadline, as it is by then.
    Drain {
        /// The name of the backend.
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// The removal of a backend.
    Remove {
        /// The name of the backend.
        name: String,
    },
    /// Maintenance: the backend gets nothing at all.
    Maintenance {
        /// The name of the backend.
        name: String,
    },
    /// The backend gets sessions old and new.
    Activate {
        /// The name of the backend.
        name: String,
    },
    /// Another weight.
    Weight {
        /// The name of the backend.
        name: String,
        /// 0 to 1000; 0 gets no new sessions.
        weight: u32,
    },
    /// One more backend.
    Add {
        /// The name of the backend.
        name: String,
        /// host:port
        address: String,
        /// 0 to 1000; 0 gets no new sessions.
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u32,
        /// It gets new sessions only while none of the others can take any.
        #[arg(long)]
        backup: bool,
    },
}

impl Change {
    /// As the API takes it.
    pub(crate) fn to_body(&self) -> Value {
        match self {
            Self::Drain { name, how } => {
                let mut body = how.to_body();
                body["name"] = json!(name);
                json!({ "drain": body })
            }
            Self::Remove { name } => json!({ "remove": name }),
            Self::Maintenance { name } => json!({ "maintenance": name }),
            Self::Activate { name } => json!({ "activate": name }),
            Self::Weight { name, weight } => json!({ "weight": { "name": name, "weight": weight } }),
            Self::Add { name, address, weight, backup } => {
                json!({ "add": { "name": name, "address": address, "weight": weight, "backup": backup } })
            }
        }
    }
}

/// How to drain.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// What becomes of its sessions. [default: persist]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// When what is left is dealt with, from now: "30m", "1h30m". [default: never]
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<Span>,
    /// With mode migrate, the share of the sessions that has moved at the deadline, 0 to 1. [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub(crate) share: Option<f64>,
    /// What to do once nothing is left, or at the deadline. [default: maintenance, at the deadline alone]
    #[arg(long, value_enum)]
    pub(crate) then: Option<Then>,
}

#[derive(Args, Debug)]
pub(crate) struct Rebalance {
    /// The pool.
    pub(crate) pool: String,
    /// The most sessions that may move in a second. [default: 50]
    #[arg(long, value_name = "N")]
    pub(crate) sessions_per_second: Option<u32>,
    /// Sessions that were not seen for long move first; needs an idle_timeout or a max_age.
    #[arg(long)]
    pub(crate) idle_first: bool,
    /// Where it ends: the most sessions of a backend, by weight, over the mean of all. [default: 1.1]
    #[arg(long, value_name = "RATIO")]
    pub(crate) target: Option<f64>,
    /// Show how far the last one is, and begin none.
    #[arg(long, conflicts_with_all = ["sessions_per_second", "idle_first", "target", "cancel"])]
    pub(crate) progress: bool,
    /// End the one that is under way.
    #[arg(long, conflicts_with_all = ["sessions_per_second", "idle_first", "target"])]
    pub(crate) cancel: bool,
}

impl Rebalance {
    /// As the API takes it; what is not said is left out.
    pub(crate) fn to_body(&self) -> Value {
        let fields = [
            ("sessions_per_second", self.sessions_per_second.map(|rate| json!(rate))),
            ("idle_first", self.idle_first.then_some(json!(true))),
            ("target_imbalance", self.target.map(|target| json!(target))),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

#[derive(Args, Debug)]
pub(crate) struct Rolling {
    /// The pool.
    pub(crate) pool: String,
    /// What restarts a backend, run by `sh -c` with STEADFAST_BACKEND and STEADFAST_ADDRESS in its environment.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) command: String,
    /// What becomes of the sessions of a backend. [default: persist]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// How long each drain may take; what is left then is sent elsewhere.
    #[arg(long, default_value = "30m", value_name = "DURATION")]
    pub(crate) deadline: Span,
    /// How long a backend may take to be up after the command.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    pub(crate) health_timeout: Span,
    /// Begin with this backend, where an earlier run stopped.
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Persist => "persist",
            Self::Retire => "retire",
            Self::Migrate => "migrate",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// They stay until they end.
    Persist,
    /// They stay, and their tokens are not renewed.
    Retire,
    /// They move, more and more of them up to the deadline.
    Migrate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Then {
    /// It drains on.
    Leave,
    /// It gets nothing any more.
    Maintenance,
    /// The same, and what is still open there is closed.
    Close,
    /// It is removed.
    Remove,
}

impl How {
    /// As the API takes it; what is not said is left out.
    pub(crate) fn to_body(&self) -> Value {
        let name = |value: Option<PossibleValue>| value.map(|value| json!(value.get_name()));
        let fields = [
            ("mode", self.mode.map(|mode| json!(mode.name()))),
            ("deadline", self.deadline.map(|deadline| json!(deadline))),
            ("share", self.share.map(|share| json!(share))),
            ("then", name(self.then.and_then(|then| then.to_possible_value()))),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

#[derive(Args, Debug)]
pub(crate) struct Backend {
    /// The pool.
    pub(crate) pool: String,
    /// The name of the backend.
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pushed {
    Up,
    Down,
    /// What the checks find.
    Auto,
}

impl Pushed {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Auto => "auto",
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The pool, where listener and routes don't matter.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["listener", "host"])]
    pub(crate) pool: Option<String>,
    /// The listener; may be left out where there is one alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// The host that is asked for.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The path that is asked for, with its query. [default: /]
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// The method. [default: GET]
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// What the Cookie field says, as in "lb-affinity=…".
    #[arg(long, value_name = "COOKIE")]
    pub(crate) cookie: Option<String>,
    /// A further field of the request, as in "X-User: ada"; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = field)]
    pub(crate) headers: Vec<(String, String)>,
    /// The client's IP address, which makes the session key in mode source-ip.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<String>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write a name, a colon and a value, as in \"X-User: ada\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
