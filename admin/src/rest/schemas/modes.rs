//! What each affinity mode needs, and what belongs to another one; see `control::check`.

use super::merge;
use control::check::modes::{GONE_STATUSES, HANDLED};
use control::spec::AffinityHeader;
use serde_json::{Value, json};

/// From a second to a minute.
pub(super) const COALESCE: &str = "^(([1-9]|[1-5][0-9])s([1-9][0-9]{0,2}ms)?|1m)$";

/// Adds the rules to those that an affinity, its header and its exceptions have.
pub(super) fn refine(schemas: &mut Value) {
    merge(&mut schemas["AffinityRule"], rule());
    merge(&mut schemas["AffinityHeader"], header());
    refine_affinity(&mut schemas["Affinity"]);
}

fn refine_affinity(affinity: &mut Value) {
    let tables = [("app_cookie", "app-cookie"), ("header", "header"), ("query", "query")];
    let tables = tables.map(|(table, mode)| {
        json!({
            "if": { "properties": { "mode": { "const": mode } }, "required": ["mode"] },
            "then": { "required": [table], "properties": { table: { "not": { "type": "null" } } } },
            "else": { "properties": { table: { "type": "null" } } },
        })
    });
    let sealed = json!({ "properties": { "token": { "const": "sealed" } } });
    let once = json!({ "properties": { "token": { "const": "sealed" }, "idle_timeout": { "type": "null" } } });
    let no_parameter = json!({ "properties": { "path_parameter": { "type": "null" } } });
    let spelled = |name: &str| -> String { name.chars().map(either_case).collect() };
    let handled: Vec<_> = HANDLED.iter().map(|name| spelled(name)).collect();
    let other_name =
        json!({ "properties": { "name": { "not": { "pattern": format!("^({})$", handled.join("|")) } } } });
    let postonly = json!({
        "if": { "properties": { "mode": { "const": "cookie" } } },
        "else": { "properties": { "cookie": { "properties": { "postonly": { "const": false } } } } },
    });
    let adopting = json!({
        "if": { "properties": { "mode": { "const": "cookie" } } },
        "else": { "properties": { "adopt": { "maxItems": 0 } } },
    });
    let in_cookie = json!({
        "properties": {
            "mode": { "const": "app-cookie" },
            "app_cookie": {
                "type": "object",
                "properties": { "style": { "enum": ["follow", "prefix"] } },
                "required": ["style"],
            },
        },
        "required": ["mode", "app_cookie"],
    });
    let coalesce = json!({
        "if": { "properties": { "coalesce": { "type": "string" } }, "required": ["coalesce"] },
        "then": { "anyOf": [{ "properties": { "mode": { "const": "cookie" } } }, in_cookie] },
    });
    let target = json!({
        "if": { "properties": { "mode": { "const": "none" } }, "required": ["mode"] },
        "then": { "properties": { "target": { "type": "null" } } },
    });
    let rules = [
        postonly,
        adopting,
        coalesce,
        target,
        when("app_cookie", "follow", json!({ "cookie": sealed, "app_cookie": no_parameter })),
        when("app_cookie", "prefix", json!({ "cookie": once, "app_cookie": no_parameter })),
        when(
            "header",
            "follow",
            json!({ "cookie": once, "header": other_name, "on_down": { "enum": ["repin", "fail"] } }),
        ),
    ];
    if let Some(all) = affinity["allOf"].as_array_mut() {
        all.extend(tables.into_iter().chain(rules));
    }
}

/// A rule for one style of a table.
fn when(table: &str, style: &str, holds: Value) -> Value {
    let styled = json!({
        "type": "object", "properties": { "style": { "const": style } }, "required": ["style"],
    });
    json!({
        "if": { "properties": { table: styled }, "required": [table] },
        "then": { "properties": holds },
    })
}

fn either_case(letter: char) -> String {
    match letter.is_ascii_alphabetic() {
        true => format!("[{}{}]", letter.to_ascii_uppercase(), letter.to_ascii_lowercase()),
        false => letter.to_string(),
    }
}

/// Only sessions that are followed can be gone.
fn header() -> Value {
    let gone_status = json!({ "const": AffinityHeader::default().gone_status });
    json!({
        "if": { "properties": { "style": { "const": "hash" } } },
        "then": { "properties": { "gone_status": gone_status } },
    })
}

/// A rule matches something, and a value is a header's.
fn rule() -> Value {
    let some = |key: &str| json!({ "required": [key], "properties": { key: { "type": "string" } } });
    json!({
        "anyOf": [some("path"), some("method"), some("header")],
        "if": some("value"),
        "then": some("header"),
    })
}

/// What a request may be answered whose session is gone.
pub(super) fn gone_status() -> Value {
    json!({ "type": "integer", "enum": GONE_STATUSES, "minimum": null })
}
