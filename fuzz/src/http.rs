//! Of the exchange, what knows no connection.

#[path = "../../dataplane/src/http/body.rs"]
mod body;

pub(crate) use body::{BadBody, Body, Piece};
