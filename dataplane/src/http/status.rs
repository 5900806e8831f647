//! What a client is told of what went wrong.

use crate::{
    http1::Status,
    pick::{Failure, Kind, Side},
};

/// `None` where nobody is there to be told.
pub(super) fn status_of(failure: Failure) -> Option<Status> {
    match (failure.side, failure.kind) {
        (
            Side::Client,
            Kind::Closed | Kind::Refused | Kind::CutShort | Kind::Connect | Kind::Handshake | Kind::ConnectTimeout,
        ) => None,
        (Side::Client | Side::Backend, Kind::Exhausted | Kind::NoPort | Kind::Drained) => {
            Some(Status::ServiceUnavailable)
        }
        (Side::Client, Kind::Timeout) => Some(Status::RequestTimeout),
        (Side::Client, Kind::Malformed) => Some(Status::BadRequest),
        (Side::Client, Kind::TooLarge) => Some(Status::ContentTooLarge),
        (Side::Backend, Kind::Timeout | Kind::ConnectTimeout) => Some(Status::GatewayTimeout),
        (
            Side::Backend,
            Kind::Connect
            | Kind::Handshake
            | Kind::Closed
            | Kind::Refused
            | Kind::CutShort
            | Kind::Malformed
            | Kind::TooLarge,
        ) => Some(Status::BadGateway),
    }
}

/// A checked configuration has these alone.
pub(super) fn gone(status: u16) -> Status {
    match status {
        400 => Status::BadRequest,
        410 => Status::Gone,
        503 => Status::ServiceUnavailable,
        _ => Status::NotFound,
    }
}
