//! A module for each target.

pub mod chunked;
pub mod configuration;
pub mod control_line;
pub mod cookie;
pub mod differential;
pub mod differential_response;
pub mod proxy_protocol;
pub mod request_head;
pub mod response_head;
pub mod token;

pub use crate::http2::translation;
