//! What is written down of each request, where to, and in which form.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, path::PathBuf, str::FromStr};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    pub to: LogTo,
    pub format: LogFormat,
    /// Bytes of lines that may wait to be written, of each worker; what comes beyond is counted and not written.
    pub queue_bytes: u64,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: LogTo::Stdout, format: LogFormat::Json, queue_bytes: 16 << 20 }
    }
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    Stdout,
    /// Opened anew on SIGUSR1.
    File(PathBuf),
    /// A Unix datagram socket, as `/dev/log`; one message for each line, of facility `local0` and severity `info`.
    Syslog(PathBuf),
}

impl FromStr for LogTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = |path: &str| Some(PathBuf::from(path)).filter(|_| !path.is_empty());
        let to = match text.split_once(':') {
            None if text == "stdout" => Some(Self::Stdout),
            Some(("file", rest)) => path(rest).map(Self::File),
            Some(("syslog", rest)) => path(rest).map(Self::Syslog),
            Some(_) | None => None,
        };
        to.ok_or_else(|| {
            format!("`{text}` is no place for a log: write \"stdout\", \"file:PATH\" or \"syslog:PATH\", as \"syslog:/dev/log\"")
        })
    }
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Syslog(path) => write!(f, "syslog:{}", path.display()),
        }
    }
}

/// The form of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, with all of [`LogField::json`] that is known.
    Json,
    /// Text with fields in it.
    Text(Vec<LogPiece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPiece {
    Text(String),
    Field(LogField),
}

/// Apache's combined log format, which tools for reading logs know by that name.
const COMBINED: &str =
    "{client} - - [{time_clf}] \"{method} {path} {protocol}\" {status} {bytes_out} \"{referer}\" \"{user_agent}\"";

impl FromStr for LogFormat {
    type Err = String;

    /// `json`, `combined`, or a text with `{field}` in it, where `{{` and `}}` stand for braces.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => return Ok(Self::Json),
            "combined" => return Self::from_str(COMBINED),
            _ => {}
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, behind) = rest[at..].split_at(1);
            if let Some(behind) = behind.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            let (name, behind) = behind.split_once('}').filter(|_| brace == "{").ok_or_else(|| {
                format!(
                    "`{text}` has a brace by itself: write `{{field}}`, or `{{{{` and `}}}}` for braces as they are"
                )
            })?;
            if !plain.is_empty() {
                pieces.push(LogPiece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(LogPiece::Field(LogField::named(name)?));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(LogPiece::Text(plain));
        }
        if !pieces.iter().any(|piece| matches!(piece, LogPiece::Field(_))) {
            return Err(format!(
                "`{text}` has no field: write \"json\", \"combined\", or a text with fields, as \"{{client}} {{status}}\""
            ));
        }
        if text.contains(['\n', '\r']) {
            return Err("a line must not end within itself: write the format in one line".to_owned());
        }
        Ok(Self::Text(pieces))
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Text(pieces) = self else { return f.write_str("json") };
        for piece in pieces {
            match piece {
                LogPiece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                LogPiece::Field(field) => write!(f, "{{{}}}", field.name())?,
            }
        }
        Ok(())
    }
}

macro_rules! as_text {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

as_text! { LogTo LogFormat }

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// What can be told of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LogField { $($variant,)* }

        impl LogField {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

fields! {
    Time "time",
    TimeClf "time_clf",
    Listener "listener",
    Client "client",
    ClientPort "client_port",
    Tls "tls",
    Protocol "protocol",
    Method "method",
    Host "host",
    Path "path",
    Status "status",
    Pool "pool",
    Backend "backend",
    Marker "marker",
    Affinity "affinity",
    Cause "cause",
    Marked "marked",
    Session "session",
    Attempts "attempts",
    Reused "reused",
    EndedBy "ended_by",
    Error "error",
    BytesIn "bytes_in",
    BytesOut "bytes_out",
    QueueMs "queue_ms",
    ConnectMs "connect_ms",
    ResponseMs "response_ms",
    TotalMs "total_ms",
    RequestId "request_id",
    Traceparent "traceparent",
    UserAgent "user_agent",
    Referer "referer",
    Worker "worker",
}

impl LogField {
    /// Those of a line in JSON: all but the time in a second form.
    pub fn json() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|field| *field != Self::TimeClf)
    }

    fn named(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|field| field.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|field| field.name()).collect();
            format!("`{{{name}}}` is no field: write one of {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_told_as_they_were_written() {
        for text in ["json", "{client}", "a {{{status}}} b", "{client} [{time_clf}] \"{path}\""] {
            assert_eq!(text.parse::<LogFormat>().unwrap().to_string(), text);
        }
        assert_eq!("combined".parse::<LogFormat>().unwrap(), COMBINED.parse().unwrap());
        for (wrong, why) in [
            ("", "no field"),
            ("client", "no field"),
            ("{{client}}", "no field"),
            ("{client", "a brace by itself"),
            ("client} {status}", "a brace by itself"),
            ("{statuss}", "`{statuss}` is no field: write one of time, "),
            ("{client}\n", "one line"),
        ] {
            let said = wrong.parse::<LogFormat>().unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }

    #[test]
    fn places_are_read_and_told_as_they_were_written() {
        for text in ["stdout", "file:/var/log/a.log", "file:a:b", "syslog:/dev/log"] {
            assert_eq!(text.parse::<LogTo>().unwrap().to_string(), text);
        }
        for wrong in ["", "stderr", "file:", "syslog:", "/var/log/a.log", "udp:a"] {
            assert!(wrong.parse::<LogTo>().unwrap_err().contains("\"file:PATH\""), "{wrong}");
        }
    }
}
