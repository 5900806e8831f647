use clap::{Args, Subcommand, ValueEnum};
use control::spec::Span;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Ctl {
    /// The admin API: address:port, or unix:PATH. [default: 127.0.0.1:9090]
    #[arg(long, global = true, env = "STEADFAST_ADMIN", value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// A file with the bearer token of the admin API.
    #[arg(long, global = true, env = "STEADFAST_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
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
    },
    /// Add a backend, or change the address or weight of one.
    Add {
        #[command(flatten)]
        backend: Backend,
        /// host:port
        address: String,
        /// 0 to 1000; 0 gets no new sessions. [default: 1]
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
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
        /// When what is left is sent elsewhere, from now: "30m", "1h30m". [default: never]
        #[arg(long, value_name = "DURATION")]
        deadline: Option<Span>,
        /// Return only when no session is left.
        #[arg(long)]
        wait: bool,
        /// The longest to wait.
        #[arg(long, default_value = "60s", value_name = "DURATION", requires = "wait")]
        timeout: Span,
    },
    /// Take a backend back into service.
    Activate(Backend),
    /// Give a backend nothing at all; its sessions go elsewhere.
    Maintenance(Backend),
    /// Remove a backend.
    Remove(Backend),
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
    /// Make a new key for affinity tokens; the old ones still open what they sealed.
    RotateKeys,
    /// Follow what happens, an event a line.
    Events,
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
    #[arg(long, value_name = "NAME", conflicts_with_all = ["listener", "host", "path"])]
    pub(crate) pool: Option<String>,
    /// The listener; may be left out where there is one alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// The host that is asked for.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The path that is asked for. [default: /]
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// What the Cookie field says, as in "lb-affinity=…".
    #[arg(long, value_name = "COOKIE")]
    pub(crate) cookie: Option<String>,
    /// The client's IP address, which makes the session key in mode source-ip.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<String>,
}
