//! What the plan of a release holds that can't be said beside its type; see `control::release`.

use super::{DEADLINE, TOKEN, VISIBLE, merge};
use control::{check::MAX_NAME, release::MAX_STEPS};
use serde_json::{Value, json};

pub(super) fn refine(schemas: &mut Value) {
    let body = &mut schemas["ReleaseBody"];
    let token = json!({ "pattern": TOKEN, "maxLength": MAX_NAME });
    for (property, more) in [
        ("hold", json!({ "$ref": null, "type": "string", "pattern": DEADLINE, "example": "10m" })),
        ("steps", steps()),
        ("login_path", json!({ "pattern": "^/[!\"$->@-~]*$" })),
        ("session_cookie", token.clone()),
        ("cache_header", token),
        ("cache_hit", json!({ "pattern": VISIBLE, "maxLength": MAX_NAME })),
    ] {
        merge(&mut body["properties"][property], more);
    }
    merge(
        body,
        json!({
            "not": { "required": ["percent", "steps"] },
            "if": { "required": ["cache_hit"] },
            "then": { "required": ["cache_header"] },
        }),
    );
}

/// That they grow, no schema can say; that some leave a control group is said here.
fn steps() -> Value {
    let step = json!({ "type": "number", "minimum": 0.01, "maximum": 100 });
    let some_below_all = json!({ "type": "number", "maximum": 99.99 });
    json!({ "items": step, "minItems": 1, "maxItems": MAX_STEPS, "contains": some_below_all })
}
