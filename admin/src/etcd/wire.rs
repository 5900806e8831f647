//! What the gateway takes and answers: protobuf's JSON, in which bytes are base64 and numbers of 64 bits are strings.

use super::{
    mirror::Told,
    rows::members_range,
    txn::{Compare, Op, Txn},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Value, json};

/// Rows in one page of a range.
pub(super) const PAGE: u32 = 500;

#[derive(Debug, Serialize)]
pub(super) struct Range {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    limit: String,
    keys_only: bool,
}

fn base64(text: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(text)
}

impl Range {
    pub(super) fn one(key: &str) -> Self {
        let limit = 1.to_string();
        Self { key: base64(key), range_end: None, revision: None, limit, keys_only: false }
    }

    /// A page of the keys from `first` up to `end`, as they were at `revision`.
    pub(super) fn page(first: &[u8], end: &str, revision: u64) -> Self {
        let (revision, range_end) = (Some(revision.to_string()), Some(base64(end)));
        Self { key: base64(first), range_end, revision, limit: PAGE.to_string(), keys_only: false }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) cluster_id: String,
    #[serde(deserialize_with = "number")]
    pub(super) revision: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeAnswer {
    pub(super) header: Header,
    pub(super) kvs: Vec<Kv>,
    pub(super) more: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kv {
    #[serde(deserialize_with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    pub(super) value: Vec<u8>,
    #[serde(deserialize_with = "number")]
    pub(super) mod_revision: u64,
}

impl From<Kv> for Told {
    fn from(Kv { key, value, mod_revision: revision }: Kv) -> Self {
        Self { key, value: Some(value), revision }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    pub(super) header: Header,
    pub(super) succeeded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    pub(super) token: String,
}

/// What is answered in place of what was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refused {
    pub(super) message: String,
    pub(super) code: u32,
}

impl Refused {
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// A line of a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<T> {
    pub(super) result: Option<T>,
    #[serde(default, deserialize_with = "words")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchAnswer {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) cancel_reason: String,
    #[serde(deserialize_with = "number")]
    pub(super) compact_revision: u64,
    /// More of the same revision follows.
    pub(super) fragment: bool,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    r#type: String,
    kv: Kv,
}

impl From<Event> for Told {
    fn from(Event { r#type, kv }: Event) -> Self {
        let told = Self::from(kv);
        if r#type == "DELETE" { Self { value: None, ..told } } else { told }
    }
}

/// A watch of all keys from `first` up to `end`, from `revision` on.
pub(super) fn watch(first: &str, end: &str, revision: u64) -> Value {
    json!({ "create_request": {
        "key": base64(first), "range_end": base64(end), "start_revision": revision.to_string(), "fragment": true,
    } })
}

/// `known` tells what this write itself has made of a key since it was planned.
pub(super) fn txn(txn: &Txn, prefix: &str, known: impl Fn(&super::rows::Key) -> Option<u64>) -> Value {
    let compares = txn.compares.iter().map(|compare| match compare {
        Compare::Unchanged(key, revision) => {
            let revision = known(key).unwrap_or(*revision).to_string();
            json!({ "key": base64(key.path(prefix)), "target": "MOD", "result": "EQUAL", "mod_revision": revision })
        }
        Compare::NoneAfter(pool, revision) => {
            let (first, end) = members_range(prefix, pool);
            let after = (revision + 1).to_string();
            json!({
                "key": base64(first), "range_end": base64(end), "target": "MOD", "result": "LESS", "mod_revision": after,
            })
        }
    });
    let ops = txn.ops.iter().map(|op| match op {
        Op::Put(key, value) => {
            json!({ "request_put": { "key": base64(key.path(prefix)), "value": base64(value) } })
        }
        Op::Delete(key) => json!({ "request_delete_range": { "key": base64(key.path(prefix)) } }),
        Op::DeleteMembers(pool) => {
            let (first, end) = members_range(prefix, pool);
            json!({ "request_delete_range": { "key": base64(first), "range_end": base64(end) } })
        }
    });
    json!({ "compare": compares.collect::<Vec<_>>(), "success": ops.collect::<Vec<_>>() })
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map_err(D::Error::custom),
        Value::Number(number) => number.as_u64().ok_or_else(|| D::Error::custom("is no number above zero")),
        Value::Null => Ok(0),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(D::Error::custom("is no number")),
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(D::Error::custom)
}

/// A stream tells what is wrong as an object, or as text.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(other.get("message").and_then(Value::as_str).map_or_else(|| other.to_string(), str::to_owned))
        }
    })
}
