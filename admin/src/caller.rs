//! Who is at the other end of a connection.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};
use tokio::net::unix::UCred;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Address(SocketAddr),
    /// Over a Unix socket, as the kernel tells it.
    Process {
        user: u32,
        group: u32,
        pid: Option<i32>,
    },
    Unknown,
}

/// Those whose wrong tokens count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Party {
    Network(IpAddr),
    User(u32),
    Unknown,
}

impl Caller {
    pub(crate) fn process(credentials: &UCred) -> Self {
        Self::Process { user: credentials.uid(), group: credentials.gid(), pid: credentials.pid() }
    }

    pub(crate) fn party(self) -> Party {
        match self {
            Self::Address(address) => Party::Network(match address.ip().to_canonical() {
                IpAddr::V4(address) => IpAddr::V4(address),
                // One client has all of it.
                IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            }),
            Self::Process { user, .. } => Party::User(user),
            Self::Unknown => Party::Unknown,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Process { user, group, pid } => {
                write!(f, "unix:uid={user},gid={group}")?;
                pid.iter().try_for_each(|pid| write!(f, ",pid={pid}"))
            }
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_address_or_its_network_or_its_user() {
        let party = |address: &str| Caller::Address(address.parse().unwrap()).party();
        assert_eq!(party("10.0.0.1:1"), party("[::ffff:10.0.0.1]:2"));
        assert_ne!(party("10.0.0.1:1"), party("10.0.0.2:1"));
        assert_eq!(party("[2001:db8::1]:1"), party("[2001:db8::ffff:1]:2"));
        assert_ne!(party("[2001:db8::1]:1"), party("[2001:db8:0:1::1]:1"));
        let user = |user, pid| Caller::Process { user, group: 0, pid };
        assert_eq!(user(7, Some(1)).party(), user(7, None).party());
        assert_eq!(user(7, Some(1)).to_string(), "unix:uid=7,gid=0,pid=1");
    }
}
