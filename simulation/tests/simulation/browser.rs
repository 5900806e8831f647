//! A browser, and what its site knows of its session: where its state lives, without a look into any token.

use std::net::IpAddr;

#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) client: IpAddr,
    /// The value of the `Cookie` header.
    pub(crate) cookie: Option<Vec<u8>>,
    pub(crate) session: Option<Session>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) backend: String,
    pub(crate) incarnation: u32,
    /// Unix seconds.
    pub(crate) issued_at: u32,
    pub(crate) seen_at: u32,
    /// The key that sealed its token, by its id.
    pub(crate) key: u16,
}

impl Browser {
    pub(crate) fn new(number: usize) -> Self {
        let number = u8::try_from(number).expect("there are few");
        Self { client: IpAddr::from([192, 0, 2, number]), cookie: None, session: None }
    }
}
