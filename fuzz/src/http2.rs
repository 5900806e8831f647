//! Of HTTP/2, what knows no stream.

#![allow(dead_code, reason = "what streams alone have a use for")]

#[path = "../../dataplane/src/http2/answer.rs"]
mod answer;
#[path = "../../dataplane/src/http2/ask.rs"]
mod ask;
#[path = "../../dataplane/src/http2/parts.rs"]
mod parts;
#[path = "../../dataplane/src/http2/text.rs"]
mod text;

pub mod translation;
