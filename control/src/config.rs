//! The configuration file.

use crate::{
    access_log::AccessLog,
    spec::{Certificate, Listener, Pool, PoolTls, Span},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, path::PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub global: Global,
    pub admin: Admin,
    pub membership: Membership,
    /// Absent where no requests are written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    #[serde(rename = "pool")]
    pub pools: Vec<Pool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    pub workers: Workers,
    /// What has to survive: the store, the data plane's last snapshot, the keys.
    pub state_dir: PathBuf,
    /// What goes with the processes: the control socket.
    pub runtime_dir: PathBuf,
    /// Whom the children run as when the supervisor is started by root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The keys of the affinity tokens, one per line in base64; the first seals, all open. `state_dir/keys` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<PathBuf>,
    /// The data plane's memory in bytes, beyond which nobody new is accepted. With 0 it is nine tenths of what its control
    /// group allows, if that bounds it.
    pub memory_bytes: u64,
    /// How long exchanges may take to finish after SIGTERM.
    pub drain_timeout: Span,
    /// How long a data plane that an upgrade has replaced may go on with what it has.
    pub upgrade_timeout: Span,
    /// Whether the children take away from themselves what they don't need; to be off for looking into them alone.
    pub sandbox: bool,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            workers: Workers::Auto,
            state_dir: PathBuf::from("/var/lib/steadfast"),
            runtime_dir: PathBuf::from("/run/steadfast"),
            user: None,
            keys_file: None,
            memory_bytes: 0,
            drain_timeout: Span::from_secs(30),
            upgrade_timeout: Span::from_secs(600),
            sandbox: true,
        }
    }
}

impl Global {
    pub fn keys_path(&self) -> PathBuf {
        self.keys_file.clone().unwrap_or_else(|| self.state_dir.join("keys"))
    }

    /// Where the admin process serves the control channel.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// Where the supervisor tells its processes; see [`crate::processes`].
    pub fn processes_path(&self) -> PathBuf {
        self.runtime_dir.join("processes.json")
    }

    /// Where the data plane keeps the snapshot that it last applied.
    pub fn snapshot_path(&self) -> PathBuf {
        self.state_dir.join("dataplane.json")
    }

    /// Where a data plane that ends leaves its live sessions to the next.
    pub fn sessions_path(&self) -> PathBuf {
        self.state_dir.join("sessions.json")
    }

    /// Where the admin process keeps the desired state.
    pub fn store_path(&self) -> PathBuf {
        self.state_dir.join("admin.redb")
    }
}

/// How many workers: one per processor that this process may run on, or a number from 1 to 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    #[default]
    Auto,
    Count(u16),
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => serializer.serialize_u16(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrCount;
        impl de::Visitor<'_> for AutoOrCount {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a number from 1 to 256")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Workers, E> {
                if text == "auto" { Ok(Workers::Auto) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Workers, E> {
                match u16::try_from(count) {
                    Ok(count @ 1..=256) => Ok(Workers::Count(count)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(count), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Workers, E> {
                self.visit_i64(i64::try_from(count).unwrap_or(i64::MAX))
            }
        }
        deserializer.deserialize_any(AutoOrCount)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// `address:port` or `unix:PATH`.
    pub listen: String,
    /// A file with the bearer token that every call but the probes must carry. Needed where `listen` is off loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// What clients are shown, who then speak TLS; for `address:port` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Certificate>,
    /// Where each change is written down, by whom it was made, what was before it and what is after it; the log unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_log: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9090".to_owned(), token_file: None, tls: None, audit_log: None }
    }
}

/// Who may change backends, and where the desired state lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Membership {
    pub source: Source,
    /// There where etcd is the source, and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
}

/// The etcd cluster that the desired state lives in (etcd v3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Etcd {
    /// `http://host:port` or `https://host:port`, one at least. They are tried in turn.
    pub endpoints: Vec<String>,
    /// What every key begins with; those who share a prefix share their pools.
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Read anew whenever etcd asks who this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The authorities of etcd's certificates, in PEM; the system's unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What etcd is shown, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// How long one call may take, from 100 ms to a minute.
    pub timeout: Span,
    /// Where the other nodes reach the admin API of this one: `http://host:port` or `https://host:port`. Without it they
    /// don't know of this node, and it asks none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// What this node is called among them; the name of the host unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: "/steadfast".to_owned(),
            user: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            timeout: Span::from_secs(5),
            advertise: None,
            node: None,
        }
    }
}

impl Etcd {
    /// How etcd is spoken to over TLS, in the words that backends' TLS is told in.
    pub fn tls(&self) -> PoolTls {
        let Self { ca_file, cert_file, key_file, .. } = self.clone();
        PoolTls { ca: ca_file, chain: cert_file, key: key_file, ..PoolTls::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// REST; the file's backends seed a pool that the store has not seen.
    #[default]
    Api,
    /// The file alone.
    File,
    /// REST on any node, and whoever writes the keys.
    Etcd,
}
