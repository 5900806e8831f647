//! Names in addresses: what is looked up, and how often.

use super::{HOST_NAME, NAME, PORT, merge};
use serde_json::{Value, json};

/// As durations are shown, up to a number of days that a pattern gives.
fn up_to(days: &str, whole: &str) -> String {
    let (sixty, millis) = ("([1-9]|[1-5][0-9])", "([1-9][0-9]{0,2}ms)?");
    let hour = "([1-9]|1[0-9]|2[0-3])";
    let days =
        if days.is_empty() { String::new() } else { format!("{days}d({hour}h)?({sixty}m)?({sixty}s)?{millis}|") };
    format!("^({whole}|{days}{hour}h({sixty}m)?({sixty}s)?{millis}|{sixty}m({sixty}s)?{millis}|{sixty}s{millis})$")
}

pub(super) fn refine(schemas: &mut Value) {
    let linger = up_to("([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9]|36[0-4])", "365d|0s|[1-9][0-9]{0,2}ms");
    let address = format!("^{HOST_NAME}:{PORT}$");
    for (schema, property, more) in [
        ("Names", "interval", json!({ "pattern": up_to("", "1d") })),
        ("Names", "linger", json!({ "pattern": linger })),
        ("Discover", "name", json!({ "pattern": NAME, "maxLength": 80 })),
        ("Discover", "address", json!({ "pattern": address, "maxLength": 255, "example": "app.internal:8080" })),
        (
            "Names",
            "server",
            json!({ "pattern": "^([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9])(\\.([1-9]?[0-9]|1[0-9]{2}|2[0-4][0-9])){3}:([1-9][0-9]{0,3}|[1-5][0-9]{4})$" }),
        ),
        (
            "Discover",
            "srv",
            json!({ "pattern": "^(_[a-z][a-z0-9-]{0,20}\\.){2}[a-z][a-z0-9-]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,3}$" }),
        ),
        ("Discover", "file", json!({ "minLength": 1, "example": "/etc/steadfast/app.json" })),
    ] {
        merge(&mut schemas[schema]["properties"][property], more);
    }
    let either = json!([
        { "required": ["address"], "properties": { "file": { "type": "null" }, "srv": { "type": "null" } } },
        {
            "required": ["file"], "properties": { "file": { "type": "string" }, "srv": { "type": "null" } },
            "not": { "required": ["address"] },
        },
        {
            "required": ["srv"], "properties": { "srv": { "type": "string" }, "file": { "type": "null" } },
            "not": { "required": ["address"] },
        },
    ]);
    merge(&mut schemas["Discover"], json!({ "required": ["name"], "oneOf": either }));
}
