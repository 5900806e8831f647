//! Where a backend is connected to.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc};

/// A place that a connection can be opened to: what an address says that is no name, or what a name has resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Inet(SocketAddr),
    Unix(UnixPath),
}

/// The path of a Unix socket, or `@` and a name in the abstract namespace (`unix(7)`); 1 to 107 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPath(Arc<str>);

const UNIX: &str = "unix:";
/// What `sun_path` holds, less the zero that ends it.
pub(crate) const MAX_PATH: usize = 107;

impl Endpoint {
    /// Whether an address is meant to be a Unix socket, rightly written or not.
    pub fn is_unix(address: &str) -> bool {
        address.starts_with(UNIX)
    }

    /// The address on a network; none of a Unix socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl UnixPath {
    /// As the system takes it: an abstract name begins with a zero.
    pub fn to_path(&self) -> PathBuf {
        match self.0.strip_prefix('@') {
            Some(name) => format!("\0{name}").into(),
            None => self.0.as_ref().into(),
        }
    }
}

/// `address:port`, or `unix:` with an absolute path or `@name`. A name that has to be resolved is none.
impl FromStr for Endpoint {
    type Err = ();

    fn from_str(address: &str) -> Result<Self, ()> {
        let Some(path) = address.strip_prefix(UNIX) else { return address.parse().map(Self::Inet).map_err(|_| ()) };
        let is_place = path.strip_prefix(['/', '@']).is_some_and(|rest| !rest.is_empty() && !rest.ends_with('/'));
        let holds = is_place && path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
        if holds { Ok(Self::Unix(UnixPath(path.into()))) } else { Err(()) }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_place_is_shown_as_it_is_written() {
        for address in ["10.0.0.1:80", "[fd00::7]:8080", "unix:/run/app.sock", "unix:@app"] {
            let endpoint: Endpoint = address.parse().unwrap();
            assert_eq!(endpoint.to_string(), address);
            assert_eq!(endpoint.inet().is_none(), Endpoint::is_unix(address));
        }
        let long = format!("unix:/{}", "x".repeat(MAX_PATH));
        for address in ["app:80", "unix:", "unix:/", "unix:@", "unix:app", "unix:/a b", "unix:/run/", "/run/app", &long]
        {
            assert_eq!(address.parse::<Endpoint>(), Err(()), "{address}");
        }
        assert!(long[..long.len() - 1].parse::<Endpoint>().is_ok());
    }

    #[test]
    fn an_abstract_name_begins_with_a_zero() {
        let path = |address: &str| match address.parse().unwrap() {
            Endpoint::Unix(path) => path.to_path().to_str().unwrap().to_owned(),
            Endpoint::Inet(_) => unreachable!(),
        };
        assert_eq!((path("unix:/run/a").as_str(), path("unix:@a").as_str()), ("/run/a", "\0a"));
    }
}
