//! How a configuration of ours is written: what is at its default is left out, and each block says where it came from.

use super::{
    draft::{Draft, Notes},
    report::{Ledger, Place},
};
use control::{
    access_log::AccessLog,
    config::Config,
    spec::{
        Adopt, Affinity, AffinityHeader, AffinityQuery, AppCookie, Backend, Certificate, Discover, Listener, Pool,
        PoolTls, Route, Tls, TlsSettings,
    },
};
use std::{collections::BTreeSet, fmt::Write};
use toml::{Table, Value};

/// Keys that are written before the others, which follow by the alphabet.
const FIRST: [&str; 10] = ["name", "bind", "protocol", "address", "host", "check", "path", "from", "cookie", "mode"];
/// Lists that are written behind the others.
const LAST: [&str; 2] = ["backend", "discover"];
/// The longest table that stands in one line.
const INLINE: usize = 100;

/// The text, below the lines of a comment that begins it.
pub(crate) fn toml(draft: &Draft, ledger: &Ledger, head: &str) -> String {
    let table = |config: &Config| Table::try_from(config).unwrap_or_default();
    let mut written = Value::Table(table(&draft.config));
    subtract(&mut written, &Value::Table(table(&defaults())));
    let mut writer = Writer { text: String::new(), notes: &draft.notes, ledger };
    for line in head.lines() {
        writer.line(0, &format!("# {line}"));
    }
    if let Value::Table(table) = &written {
        writer.table("", "", table, 0);
    }
    writer.text
}

/// One of each, with all at its default.
fn defaults() -> Config {
    let tls = TlsSettings { certificates: vec![Certificate::default()], ..TlsSettings::default() };
    let tls = Some(Tls::With(Box::new(tls)));
    let listener = Listener { routes: vec![Route::default()], tls, ..Listener::default() };
    let affinity = Affinity {
        app_cookie: Some(AppCookie::default()),
        header: Some(AffinityHeader::default()),
        query: Some(AffinityQuery::default()),
        adopt: vec![Adopt::default()],
        ..Affinity::default()
    };
    let (backends, discover) = (vec![Backend::default()], vec![Discover::default()]);
    let pool = Pool { affinity, tls: Some(PoolTls::default()), backends, discover, ..Pool::default() };
    let access_log = Some(AccessLog::default());
    Config { access_log, listeners: vec![listener], pools: vec![pool], ..Config::default() }
}

/// Takes out what is as in `default`, but for texts that have none: of those something has to be there.
fn subtract(value: &mut Value, default: &Value) {
    match (value, default) {
        (Value::Table(table), Value::Table(defaults)) => {
            for (key, default) in defaults {
                let Some(inner) = table.get_mut(key) else { continue };
                if inner == default && inner.as_str() != Some("") {
                    table.remove(key);
                    continue;
                }
                subtract(inner, default);
                // A list that is empty says nothing; a table may by being there.
                let empty_list = inner.as_array().is_some_and(Vec::is_empty) && key != "upgrades";
                let empty_table = inner.as_table().is_some_and(Table::is_empty) && key != "tls";
                if empty_list || empty_table {
                    table.remove(key);
                }
            }
        }
        (Value::Array(values), Value::Array(defaults)) => {
            if let Some(default) = defaults.first().filter(|default| default.is_table()) {
                values.iter_mut().for_each(|value| subtract(value, default));
            }
        }
        _ => {}
    }
}

struct Writer<'a> {
    text: String,
    notes: &'a Notes,
    ledger: &'a Ledger,
}

impl Writer<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        let room = "  ".repeat(depth);
        // A string takes whatever is written to it.
        let _ = writeln!(self.text, "{room}{line}");
    }

    /// What is in a table. `name` is that of its header, `path` has the numbers of its lists as well.
    fn table(&mut self, name: &str, path: &str, table: &Table, depth: usize) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, value)| {
            (is_block(key, value), LAST.contains(&key.as_str()), rank(key), (*key).clone())
        });
        let below = |outer: &str, key: &str| if outer.is_empty() { key.to_owned() } else { format!("{outer}.{key}") };
        for (key, value) in entries {
            let (name, path) = (below(name, key), below(path, key));
            match value {
                Value::Array(values) if is_block(key, value) => {
                    for (at, value) in values.iter().enumerate() {
                        let table = value.as_table().cloned().unwrap_or_default();
                        self.block(&format!("[[{name}]]"), &name, &format!("{path}.{at}"), &table, depth);
                    }
                }
                // A table with nothing but tables in it needs no header.
                Value::Table(inner) if is_block(key, value) && holds_blocks_alone(inner) => {
                    self.table(&name, &path, inner, depth);
                }
                Value::Table(table) if is_block(key, value) => {
                    self.block(&format!("[{name}]"), &name, &path, table, depth);
                }
                Value::Table(table) => {
                    let inner: Vec<_> = table.iter().map(|(key, value)| format!("{} = {value}", quoted(key))).collect();
                    self.line(depth.saturating_sub(1), &format!("{key} = {{ {} }}", inner.join(", ")));
                }
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => self.line(depth.saturating_sub(1), &format!("{} = {value}", quoted(key))),
            }
        }
    }

    fn block(&mut self, header: &str, name: &str, path: &str, table: &Table, depth: usize) {
        self.text.push('\n');
        let none = BTreeSet::<Place>::new();
        let places = self.notes.get(path).unwrap_or(&none);
        if !places.is_empty() {
            let named = self.ledger.named(places);
            self.line(depth, &format!("# {named}"));
        }
        self.line(depth, header);
        self.table(name, path, table, depth + 1);
    }
}

/// Whether it stands under a header of its own: all tables do, but one whose keys are the user's and few.
fn is_block(key: &str, value: &Value) -> bool {
    match value {
        Value::Array(values) => values.first().is_some_and(Value::is_table),
        Value::Table(table) => {
            let length = table.iter().map(|(key, value)| key.len() + value.to_string().len() + 5).sum::<usize>();
            key != "values" || length > INLINE
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
    }
}

fn holds_blocks_alone(table: &Table) -> bool {
    !table.is_empty() && table.iter().all(|(key, value)| is_block(key, value))
}

fn rank(key: &str) -> usize {
    FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len())
}

fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}
