use std::net::IpAddr;

/// What of a request can say which session it is of.
pub trait Carried {
    /// The values of the `Cookie` fields, in order.
    fn cookies(&self) -> impl Iterator<Item = &[u8]>;
    /// The values of the fields called `name`, in any case and in order.
    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
    /// As it came, without the query.
    fn path(&self) -> &[u8];
    fn query(&self) -> Option<&[u8]>;
    /// As it came.
    fn method(&self) -> &[u8];
    fn client(&self) -> IpAddr;
}

/// A request in parts, for whoever has not read one off a wire.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub cookies: &'a [&'a [u8]],
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Path and query.
    pub target: &'a str,
    pub method: &'a str,
    pub client: IpAddr,
}

impl<'a> Parts<'a> {
    /// A GET for `/` that has cookies alone.
    pub fn with_cookies(cookies: &'a [&'a [u8]], client: IpAddr) -> Self {
        Self { cookies, headers: &[], target: "/", method: "GET", client }
    }
}

impl Carried for Parts<'_> {
    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.cookies.iter().copied()
    }

    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let called = self.headers.iter().filter(move |(label, _)| label.eq_ignore_ascii_case(name));
        called.map(|(_, value)| value.as_bytes())
    }

    fn path(&self) -> &[u8] {
        self.target.split_once('?').map_or(self.target, |(path, _)| path).as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.target.split_once('?').map(|(_, query)| query.as_bytes())
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn client(&self) -> IpAddr {
        self.client
    }
}
