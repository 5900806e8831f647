//! The address on which REST is served.

use crate::{control_server, error::Error};
use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net},
    path::PathBuf,
};
use tokio::net::{TcpListener, UnixListener};

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// The socket that was made here and goes with this process.
        made: Option<PathBuf>,
    },
}

impl Listener {
    /// Binds what the configuration says: `address:port`, or `unix:PATH`, which is made with mode 0600.
    ///
    /// # Errors
    /// The address is taken or can't be had; or it is off loopback and `token` is false.
    pub(crate) async fn bind(address: &str, token: bool) -> Result<Self, Error> {
        if let Some(path) = address.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let listener = control_server::bind(&path).await?;
            return Ok(Self::Unix { listener, made: Some(path) });
        }
        let failed = |source: io::Error| {
            let address = address.to_owned();
            let taken = source.kind() == io::ErrorKind::AddrInUse;
            if taken { Error::Taken { address } } else { Error::Listen { address, source } }
        };
        let parsed: SocketAddr = address.parse().map_err(|error| failed(io::Error::other(error)))?;
        refuse_exposed(parsed, token)?;
        Ok(Self::Tcp(TcpListener::bind(parsed).await.map_err(failed)?))
    }

    /// Takes a bound and listening TCP or Unix socket.
    pub(crate) fn take(socket: OwnedFd, token: bool) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: "the socket that was handed down".to_owned(), source };
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true).map_err(failed)?;
        match socket.local_addr() {
            Ok(address) => {
                refuse_exposed(address, token)?;
                Ok(Self::Tcp(TcpListener::from_std(socket).map_err(failed)?))
            }
            // What has an address of another family is a Unix socket.
            Err(_) => {
                let socket = net::UnixListener::from(OwnedFd::from(socket));
                Ok(Self::Unix { listener: UnixListener::from_std(socket).map_err(failed)?, made: None })
            }
        }
    }

    /// Whether it is reached over a loopback address, as web pages can.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()),
            Self::Unix { .. } => false,
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string()),
            Self::Unix { made: Some(path), .. } => format!("unix:{}", path.display()),
            Self::Unix { made: None, .. } => "a Unix socket".to_owned(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { made: Some(path), .. } = self {
            drop(std::fs::remove_file(path));
        }
    }
}

fn refuse_exposed(address: SocketAddr, token: bool) -> Result<(), Error> {
    if token || address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Error::Exposed { address: address.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn an_address_off_loopback_needs_a_token_however_it_comes() {
        let exposed = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let error = Listener::take(exposed.into(), false).unwrap_err().to_string();
        assert!(error.contains("admin.token_file"), "{error}");
        assert!(matches!(Listener::bind("0.0.0.0:0", false).await, Err(Error::Exposed { .. })));
        let exposed = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(!Listener::take(exposed.into(), true).unwrap().is_loopback());
        let local = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Listener::take(local.into(), false).unwrap().is_loopback());
    }

    #[tokio::test]
    async fn says_which_address_is_taken() {
        let first = Listener::bind("127.0.0.1:0", false).await.unwrap();
        let error = Listener::bind(&first.name(), false).await.unwrap_err().to_string();
        assert_eq!(error, format!("can't listen on {}: another process answers on it", first.name()));
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_alone_and_replaces_a_dead_one() {
        let folder = Folder::new();
        let path = folder.path().join("admin.sock");
        let address = format!("unix:{}", path.display());
        drop(net::UnixListener::bind(&path).unwrap());
        let live = Listener::bind(&address, false).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&address, false).await, Err(Error::Taken { .. })));
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "no socket").unwrap();
        let error = Listener::bind(&address, false).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        let handed = net::UnixListener::bind(folder.path().join("handed")).unwrap();
        assert!(matches!(Listener::take(handed.into(), false).unwrap(), Listener::Unix { made: None, .. }));
    }
}
