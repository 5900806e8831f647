//! One line per event on standard error, each with the role that wrote it.

use clap::ValueEnum;
use serde_json::{Map, Value};
use std::{
    fmt,
    io::{self, IsTerminal},
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `time role LEVEL message key=value`
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    pub(crate) format: LogFormat,
    /// What is logged where `RUST_LOG` does not say.
    pub(crate) level: String,
}

/// Called once, by the process that plays `role`.
pub(crate) fn start(role: &'static str, options: &LogOptions) {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|wanted| wanted.parse::<Targets>().ok());
    let level = options.level.parse().unwrap_or(LevelFilter::INFO);
    // What h2 warns of is what peers do, as often as they like: it is counted, and would fill the log.
    let told = || Targets::new().with_default(level).with_target("h2", LevelFilter::ERROR.min(level));
    let filter = wanted.unwrap_or_else(told);
    // A log that can't be written must not end a role: the default answer to it writes to standard error again.
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    match options.format {
        LogFormat::Text => registry.with(layer.with_target(false).with_timer(Stamp(role))).init(),
        LogFormat::Json => registry.with(layer.event_format(Json(role))).init(),
    }
}

/// The time, followed by the role.
struct Stamp(&'static str);

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(w)?;
        write!(w, " {}", self.0)
    }
}

struct Json(&'static str);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        fields.put("time", time);
        fields.put("level", event.metadata().level().as_str());
        fields.put("role", self.0);
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}
