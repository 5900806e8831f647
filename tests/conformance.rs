//! What RFC 9113 and RFC 7541 demand of a server, in cases as those of h2spec: `support/conformance.py`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use serde_json::{Value, json};
use support::{
    Setup,
    peers::{Nginx, python},
};

/// What the library `h2` does otherwise; each of these ends its connection or is harmless, and one that is mended shows here.
fn known() -> Value {
    // It says PROTOCOL_ERROR of a block that can't be decoded, where COMPRESSION_ERROR is the name.
    let code = "goaway 1";
    json!({
        "4.3 a block that is none": code,
        "7541 2.3.3 an index that is nowhere": code,
        "7541 2.3.3 a name by an index that is nowhere": code,
        "7541 4.2 a size of the table at the end of a block": code,
        "7541 5.2 padding of more than 7 bits": code,
        "7541 5.2 padding with zeros": code,
        "7541 5.2 the end of a string within it": code,
        "7541 6.1 the index 0": code,
        "7541 6.3 a table larger than was said": code,
        // It leaves them out, and passes the other trailers on.
        "8.3 a pseudo-field among trailers": "nothing comes",
    })
}

#[test]
fn http_2_is_spoken_as_its_rfcs_demand() {
    let server = "location /wait { proxy_pass http://127.0.0.1:PORT/files/; }";
    let nginx = Nginx::start_with(&["a"], "", server, "");
    nginx.file("text", b"some text, which is longer than a window");
    let instance = Setup::shop("", nginx.backends.iter().map(|(name, address)| (name, address))).start();
    let outcome = python(include_str!("support/conformance.py"), &[&instance.listener("web")]);
    assert_eq!(outcome.stderr, "");
    let told: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(told["cases"].as_u64() > Some(120), "{told}");
    assert_eq!(told["failed"], known());
}
