//! Of the exchange, what knows no connection.

#[allow(dead_code, reason = "an exchange needs more of it than a fuzzer")]
#[path = "../../dataplane/src/http/body.rs"]
mod body;

pub(crate) use body::{BadBody, Body, Piece};
