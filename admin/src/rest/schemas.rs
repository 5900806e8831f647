//! What the checks of requests hold that can't be said beside the types: patterns, and rules between fields.

mod adopt;
mod modes;
mod names;
mod release;

use control::check::MAX_NAME;
use serde_json::{Map, Value, json};

/// A name that is neither `.` nor `..`.
const NAME: &str = "^([A-Za-z0-9_-]|[.][A-Za-z0-9_-]|[.][.][A-Za-z0-9._-])[A-Za-z0-9._-]*$";
/// RFC 9110 §5.6.2.
const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// As it stands in a query.
const ARGUMENT: &str = "^[!\"$%'-<>-~]+$";
const VISIBLE: &str = "^[!-~]+$";
const STATUSES: &str = "^([1-5][0-9]{2}|[1-2][0-9]{2}-[3-5][0-9]{2})$";
/// The path of a check and of a cookie.
const PATH: &str = "^/[!-~]*$";
const COOKIE_PATH: &str = "^/[!-:<-~]*$";
const DOMAIN: &str = "^[.]?[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$";
const SERVER_NAME: &str = "^([A-Za-z0-9_-]{1,63}[.]){0,3}[A-Za-z0-9_-]{1,61}$";
/// Above zero and at most a year.
const DEADLINE: &str = "^([1-9][0-9]{0,8}ms|[1-9][0-9]{0,6}s|[1-9][0-9]{0,4}m|[1-9][0-9]{0,2}h([1-9][0-9]?m)?|([1-9][0-9]?|[12][0-9]{2}|3[0-5][0-9])d)$";

/// A host by name: its last label is no number.
const HOST_NAME: &str = "([A-Za-z0-9_-]{1,63}[.]){0,8}[A-Za-z0-9_-]{0,31}[A-Za-z_-][A-Za-z0-9_-]{0,31}";
const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";

/// `host:port`: an IPv4 address, an IPv6 address in brackets, or a name whose last label is no number; or a Unix socket.
fn address() -> String {
    let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let group = "[0-9A-Fa-f]{1,4}";
    let mut ipv6 =
        vec![format!("({group}:){{7}}{group}"), format!(":((:{group}){{1,7}}|:)"), format!("({group}:){{1,7}}:")];
    ipv6.extend((1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before)));
    let ipv6 = ipv6.join("|");
    let unix = "unix:[/@]([!-~]{0,104}[!-.0-~])";
    format!("^((({octet}[.]){{3}}{octet}|\\[({ipv6})\\]|{HOST_NAME}):{PORT}|{unix})$")
}

/// Durations in the form in which they are shown, so that one pattern holds for what comes in and what goes out: of at
/// least a second, or of at least so many digits of milliseconds.
fn duration(digits_of_millis: Option<u32>) -> String {
    let (lead, sixty) = ("[1-9][0-9]{0,5}", "([1-9]|[1-5][0-9])");
    let (hours, minutes, seconds) = ("(([1-9]|1[0-9]|2[0-3])h)?", format!("({sixty}m)?"), format!("({sixty}s)?"));
    let longer = [
        format!("{lead}d{hours}{minutes}{seconds}"),
        format!("{lead}h{minutes}{seconds}"),
        format!("{lead}m{seconds}"),
        format!("{lead}s"),
    ];
    let shorter = digits_of_millis.map_or(String::new(), |digits| format!("|[1-9][0-9]{{{},5}}ms", digits - 1));
    format!("^(({})([1-9][0-9]{{0,2}}ms)?{shorter})$", longer.join("|"))
}

/// Protocols as they stand in `Upgrade`, but for those that carry requests; see `control::spec::carries_requests`.
fn upgrades() -> Value {
    let token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
    let carriers = "^([hH]2[cC]?|[hH][tT][tT][pP]|[tT][lL][sS])(/|$)";
    let pattern = format!("^{token}(/{token})?$");
    json!({ "items": { "pattern": pattern, "maxLength": MAX_NAME, "not": { "pattern": carriers } } })
}

/// Files, a chain with its key, and no authorities where nobody is verified.
fn tls(pool: &mut Value) {
    for file in ["ca", "chain", "key"] {
        merge(&mut pool["properties"][file], json!({ "minLength": 1 }));
    }
    let beside = |one: &str, other: &str| {
        json!({
            "if": { "properties": { one: { "type": "string" } }, "required": [one] },
            "then": { "properties": { other: { "type": "string" } }, "required": [other] },
        })
    };
    let unverified = json!({
        "if": { "properties": { "verify": { "const": false } }, "required": ["verify"] },
        "then": { "properties": { "ca": { "type": "null" } } },
    });
    merge(pool, json!({ "allOf": [beside("chain", "key"), beside("key", "chain"), unverified] }));
}

/// Adds to the schemas of a description what it lacks.
pub(super) fn refine(schemas: &mut Value) {
    let name = || json!({ "pattern": NAME, "maxLength": MAX_NAME });
    let address = || json!({ "pattern": address(), "maxLength": 255, "example": "10.0.0.7:8080" });
    let token = json!({ "pattern": TOKEN, "maxLength": MAX_NAME });
    for (schema, property, more) in [
        ("Backend", "name", name()),
        ("Backend", "address", address()),
        ("BackendBody", "address", address()),
        ("BackendPatch", "address", address()),
        ("PoolBody", "upgrades", upgrades()),
        ("PoolBody", "slow_start", json!({ "pattern": duration(Some(1)), "example": "30s" })),
        ("Affinity", "coalesce", json!({ "pattern": modes::COALESCE })),
        ("Affinity", "target", json!({ "exclusiveMinimum": 0, "exclusiveMaximum": 1 })),
        ("Cookie", "name", token.clone()),
        ("Cookie", "path", json!({ "pattern": COOKIE_PATH })),
        ("Cookie", "domain", json!({ "pattern": DOMAIN })),
        ("Cookie", "max_age", json!({ "pattern": duration(None) })),
        ("Cookie", "idle_timeout", json!({ "pattern": duration(None) })),
        ("Cookie", "lifetime", json!({ "pattern": duration(None) })),
        ("AppCookie", "name", token.clone()),
        ("AppCookie", "path_parameter", token.clone()),
        ("AffinityHeader", "name", token.clone()),
        ("AffinityHeader", "gone_status", modes::gone_status()),
        ("AffinityRule", "path", json!({ "pattern": "^/[!\"$->@-~]*$" })),
        ("AffinityRule", "method", token.clone()),
        ("AffinityRule", "header", token.clone()),
        ("AffinityRule", "value", json!({ "pattern": "^([!-~]([ -~]*[!-~])?)?$" })),
        ("AffinityQuery", "name", json!({ "pattern": ARGUMENT, "maxLength": MAX_NAME })),
        ("HealthCheck", "interval", json!({ "pattern": duration(Some(3)) })),
        ("HealthCheck", "expect", json!({ "pattern": STATUSES })),
        ("HealthCheck", "path", json!({ "pattern": PATH })),
        ("HealthCheck", "instance_header", json!({ "pattern": TOKEN, "maxLength": MAX_NAME })),
        ("HealthCheck", "host", json!({ "pattern": VISIBLE })),
        ("HealthCheck", "service", json!({ "pattern": VISIBLE })),
        ("PoolTls", "server_name", json!({ "pattern": SERVER_NAME })),
        ("DrainBody", "deadline", json!({ "$ref": null, "type": "string", "pattern": DEADLINE, "example": "30m" })),
        ("DrainQuestion", "deadline", json!({ "$ref": null, "type": "string", "pattern": DEADLINE })),
        ("AddQuestion", "name", name()),
        ("AddQuestion", "address", address()),
        ("Question", "pool", name()),
        ("Question", "listener", name()),
        ("Question", "path", json!({ "pattern": "^/" })),
    ] {
        merge(&mut schemas[schema]["properties"][property], more);
    }
    merge(&mut schemas["Span"], json!({ "pattern": duration(Some(1)) }));
    merge(&mut schemas["Backend"], json!({ "required": ["name", "address"] }));
    for named in ["AppCookie", "AffinityHeader", "AffinityQuery"] {
        merge(&mut schemas[named], json!({ "required": ["name"] }));
    }
    merge(&mut schemas["Affinity"], cookie_rules());
    merge(&mut schemas["PoolBody"], pool_rules());
    merge(&mut schemas["PoolBody"]["properties"]["load_bound"], json!({ "minimum": 1.05, "maximum": 10 }));
    tls(&mut schemas["PoolTls"]);
    modes::refine(schemas);
    names::refine(schemas);
    adopt::refine(schemas);
    for drain in ["DrainBody", "DrainQuestion"] {
        merge(&mut schemas[drain], drain_rules());
    }
    release::refine(schemas);
    for change in schemas["Preview"]["oneOf"].as_array_mut().into_iter().flatten() {
        merge(change, json!({ "additionalProperties": false }));
    }
    merge(&mut schemas["HealthCheck"], health_rules());
    merge(&mut schemas["RotateBody"], behind_rules());
    let alone = json!({ "listener": false, "host": false });
    merge(&mut schemas["Question"], json!({ "if": { "required": ["pool"] }, "then": { "properties": alone } }));
    correct(schemas);
}

/// What is derived says `null` or an empty name where a field may be left out, and knows no unsigned numbers.
fn correct(schemas: &mut Value) {
    for field in fields(schemas) {
        if field.get("default").is_some_and(|default| default.is_null() || default == "") {
            field.remove("default");
        }
        if field.get("format").is_some_and(|format| format == "int32") {
            field.remove("format");
            field.entry("maximum").or_insert(u32::MAX.into());
        }
    }
}

/// Every field of every schema.
fn fields(schemas: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let schemas = schemas.as_object_mut().into_iter().flat_map(|schemas| schemas.values_mut());
    let properties = schemas.filter_map(|schema| schema.get_mut("properties").and_then(Value::as_object_mut));
    properties.flat_map(|fields| fields.values_mut()).filter_map(Value::as_object_mut)
}

/// What the settings of a cookie say of each other; see `control::check`.
fn cookie_rules() -> Value {
    let plain = json!({
        "if": { "properties": { "token": { "const": "plain" } }, "required": ["token"] },
        "then": { "properties": { "idle_timeout": { "type": "null" }, "lifetime": { "type": "null" } } },
    });
    let insecure = json!({
        "if": { "properties": { "secure": { "const": false } } },
        "then": { "properties": {
            "same_site": { "not": { "const": "none" } },
            "partitioned": { "const": false },
            "name": { "not": { "pattern": "^__(Secure|Host)-" } },
        } },
    });
    json!({ "allOf": [{ "properties": { "cookie": { "allOf": [plain, insecure] } } }] })
}

/// What the settings of health checks say of each other; see `control::check`.
fn health_rules() -> Value {
    let wants = |key: &str, value: Value| json!({ "properties": { key: value }, "required": [key] });
    json!({ "allOf": [
        {
            "if": wants("instance_header", json!({ "type": "string" })),
            "then": wants("check", json!({ "const": "http" })),
        },
        {
            "if": wants("service", json!({ "type": "string" })),
            "then": wants("check", json!({ "const": "grpc" })),
        },
        {
            "if": wants("fail_open_below", json!({ "exclusiveMinimum": 0 })),
            "then": wants("fail_open", json!({ "const": true })),
        },
    ] })
}

/// Waiting for room and going elsewhere for want of it take a limit, and what requests share is announced as nobody's; see
/// `control::check`.
fn pool_rules() -> Value {
    let on_overload = |value: &str| {
        let affinity = json!({ "properties": { "on_overload": { "const": value } }, "required": ["on_overload"] });
        json!({ "properties": { "affinity": affinity }, "required": ["affinity"] })
    };
    let limits = |properties: Value, required: &[&str]| json!({ "properties": { "limits": { "properties": properties, "required": required } }, "required": ["limits"] });
    let limited = limits(json!({ "requests": { "minimum": 1 } }), &["requests"]);
    let queued = limits(json!({ "requests": { "minimum": 1 }, "queue": { "minimum": 1 } }), &["requests"]);
    json!({ "allOf": [
        {
            "if": { "properties": { "http2": { "const": true } }, "required": ["http2"] },
            "then": { "properties": {
                "send_proxy": { "type": "null" },
                "upgrades": { "items": { "pattern": "^[wW][eE][bB][sS][oO][cC][kK][eE][tT]$" } },
            } },
        },
        { "if": on_overload("queue"), "then": queued },
        { "if": on_overload("spill"), "then": { "anyOf": [limited, { "required": ["load_bound"] }] } },
    ] })
}

/// A key behind the one that seals is the second.
fn behind_rules() -> Value {
    json!({
        "if": { "properties": { "seals": { "const": false } }, "required": ["seals"] },
        "then": { "properties": { "keep": { "minimum": 2 } } },
    })
}

/// What the fields of a drain say of each other.
fn drain_rules() -> Value {
    json!({
        "if": { "properties": { "mode": { "const": "migrate" } }, "required": ["mode"] },
        "then": { "required": ["deadline"] },
        "else": { "properties": { "share": false } },
    })
}

/// RFC 7396.
fn merge(value: &mut Value, more: Value) {
    let (Value::Object(fields), Value::Object(more)) = (value, more) else { return };
    for (key, more) in more {
        if more.is_null() {
            fields.remove(&key);
        } else {
            fields.insert(key, more);
        }
    }
}
