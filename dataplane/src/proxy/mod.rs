//! The PROXY protocol (haproxy.org/download/3.2/doc/proxy-protocol.txt): a header in front of a connection that tells whose
//! it is.

mod header;
mod receive;

pub(crate) use header::announce;
pub(crate) use receive::receive;
