use crate::http1::{Name, RequestHead};
use affinity::marker::Carried;
use std::net::IpAddr;

/// A request's head as affinity reads it.
pub(super) struct Head<'h, 'b> {
    pub(super) head: &'h RequestHead<'b>,
    /// The client's address, as a trusted proxy tells it where one is in front.
    pub(super) client: IpAddr,
}

impl Carried for Head<'_, '_> {
    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.head.fields.values(Name::Cookie)
    }

    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.fields.called(name.as_bytes())
    }

    fn path(&self) -> &[u8] {
        self.head.target.path()
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.target.query()
    }

    fn method(&self) -> &[u8] {
        self.head.verb
    }

    fn client(&self) -> IpAddr {
        self.client
    }
}
