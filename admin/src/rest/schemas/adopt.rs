//! What adopting another balancer's cookies needs; see `control::check`.

use super::{COOKIE_PATH, DOMAIN, NAME, TOKEN, VISIBLE, merge};
use control::{
    check::{MAX_NAME, adopt::MAX_ADOPTED},
    spec::AdoptFrom,
};
use serde_json::{Value, json};

pub(super) fn refine(schemas: &mut Value) {
    let visible = json!({ "pattern": VISIBLE, "maxLength": MAX_NAME });
    let backend = json!({ "type": "string", "pattern": NAME, "maxLength": MAX_NAME });
    let value = json!({ "pattern": "^[!#-+\\--:<-\\[\\]-~]+$" });
    for (property, more) in [
        ("cookie", json!({ "pattern": TOKEN, "maxLength": MAX_NAME })),
        // It may not be left out.
        ("from", json!({ "$ref": "#/components/schemas/AdoptFrom", "oneOf": null, "anyOf": null })),
        ("key", visible.clone()),
        ("service", visible),
        ("values", json!({ "propertyNames": value, "additionalProperties": backend })),
        ("path", json!({ "pattern": COOKIE_PATH })),
        ("domain", json!({ "pattern": DOMAIN })),
    ] {
        merge(&mut schemas["Adopt"]["properties"][property], more);
    }
    merge(&mut schemas["Adopt"], kinds());
    merge(&mut schemas["Affinity"]["properties"]["adopt"], json!({ "maxItems": MAX_ADOPTED }));
}

/// What each kind needs is no other's.
fn kinds() -> Value {
    let is = |from: AdoptFrom| json!({ "properties": { "from": { "const": from.name() } } });
    let needs = |from: AdoptFrom, key: &str| {
        json!({
            "if": is(from),
            "then": { "required": [key], "properties": { key: { "not": { "type": "null" } } } },
            "else": { "properties": { key: { "type": "null" } } },
        })
    };
    let nobody = json!({ "values": { "maxProperties": 0 }, "delete": { "const": false } });
    let rules = [
        needs(AdoptFrom::HaproxyDynamic, "key"),
        needs(AdoptFrom::IngressNginxPersistent, "service"),
        json!({ "if": is(AdoptFrom::Opaque), "then": { "properties": nobody } }),
    ];
    json!({ "required": ["from", "cookie"], "allOf": rules })
}
