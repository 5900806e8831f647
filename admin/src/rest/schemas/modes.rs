//! What each affinity mode needs, and what belongs to another one; see `control::check`.

use serde_json::{Value, json};

/// Adds the rules to those that an affinity has.
pub(super) fn refine(affinity: &mut Value) {
    let tables = [("app_cookie", "app-cookie"), ("header", "header"), ("query", "query")];
    let rules = tables.map(|(table, mode)| {
        json!({
            "if": { "properties": { "mode": { "const": mode } }, "required": ["mode"] },
            "then": { "required": [table], "properties": { table: { "not": { "type": "null" } } } },
            "else": { "properties": { table: { "type": "null" } } },
        })
    });
    if let Some(all) = affinity["allOf"].as_array_mut() {
        all.extend(rules);
    }
}
