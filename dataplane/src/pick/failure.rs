/// What went wrong with an exchange, and on which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) side: Side,
    pub(crate) kind: Kind,
    /// The backend connection had served another exchange before.
    pub(crate) reused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No connection could be opened.
    Connect,
    /// This machine had no descriptor or memory left for one.
    Exhausted,
    /// This machine had no port left from which to reach it; others may be reached.
    NoPort,
    /// Opening a connection took too long.
    ConnectTimeout,
    /// There was no agreement on TLS, as where a certificate is not trusted.
    Handshake,
    /// Closed or reset before anything was answered.
    Closed,
    /// Given back before anything was done of it.
    Refused,
    /// Closed or reset within a message.
    CutShort,
    Timeout,
    /// Its backend's drain is over, and was to close what is open.
    Drained,
    /// Not HTTP, or a form that is refused.
    Malformed,
    TooLarge,
}

impl Failure {
    pub(crate) fn client(kind: Kind) -> Self {
        Self { side: Side::Client, kind, reused: false }
    }

    pub(crate) fn backend(kind: Kind, reused: bool) -> Self {
        Self { side: Side::Backend, kind, reused }
    }

    /// Whether the backend can't have processed any of a request that is `idempotent` and still `whole` in our memory.
    /// A connection that could not be opened has carried none of any request.
    pub(crate) fn may_repeat(self, idempotent: bool, whole: bool) -> Repeat {
        match (self.side, self.kind) {
            (Side::Backend, Kind::Connect | Kind::NoPort | Kind::Handshake | Kind::ConnectTimeout) => Repeat::Elsewhere,
            // The backend closed an idle connection as we picked it: it is there, and its session with it.
            (Side::Backend, Kind::Closed) if self.reused && idempotent && whole => Repeat::There,
            // As a backend does that is about to stop, or has as many streams as it can serve.
            (Side::Backend, Kind::Refused) if whole => Repeat::There,
            (
                Side::Client | Side::Backend,
                Kind::Closed
                | Kind::Refused
                | Kind::CutShort
                | Kind::Timeout
                | Kind::Drained
                | Kind::Malformed
                | Kind::TooLarge
                | Kind::Connect
                | Kind::Handshake
                | Kind::Exhausted
                | Kind::NoPort
                | Kind::ConnectTimeout,
            ) => Repeat::No,
        }
    }

    /// Whether it speaks against the backend's health.
    pub(crate) fn marks(self) -> bool {
        self.side == Side::Backend
            && (matches!(self.kind, Kind::Connect | Kind::Handshake | Kind::ConnectTimeout | Kind::CutShort)
                || (self.kind == Kind::Closed && !self.reused))
    }

    /// For events and logs.
    pub(crate) fn reason(self) -> &'static str {
        match self.kind {
            Kind::Connect => "connection refused or unreachable",
            Kind::Handshake => "no agreement on TLS",
            Kind::Exhausted => "out of descriptors or memory",
            Kind::NoPort => "no local port is left towards it",
            Kind::ConnectTimeout => "connect timed out",
            Kind::Closed => "closed without a response",
            Kind::Refused => "refused before anything was done",
            Kind::CutShort => "closed within a response",
            Kind::Timeout => "timed out",
            Kind::Drained => "closed at the end of its drain",
            Kind::Malformed => "malformed message",
            Kind::TooLarge => "message too large",
        }
    }
}

/// Where a failed request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    No,
    /// At the same backend, over a fresh connection.
    There,
    /// At another backend.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_speaks_against_no_backend() {
        for kind in [Kind::Exhausted, Kind::NoPort] {
            assert!(!Failure::backend(kind, false).marks(), "{kind:?}");
        }
        assert!(Failure::backend(Kind::Connect, false).marks());
    }

    #[test]
    fn only_what_cannot_have_been_processed_is_repeated() {
        let refused = Failure::backend(Kind::Connect, false);
        let stale = Failure::backend(Kind::Closed, true);
        for (failure, idempotent, whole, repeat) in [
            (refused, false, false, Repeat::Elsewhere),
            (Failure::backend(Kind::ConnectTimeout, false), false, true, Repeat::Elsewhere),
            (Failure::backend(Kind::Handshake, false), false, true, Repeat::Elsewhere),
            (Failure::backend(Kind::NoPort, false), false, true, Repeat::Elsewhere),
            (Failure::backend(Kind::Exhausted, false), true, true, Repeat::No),
            (stale, true, true, Repeat::There),
            (stale, false, true, Repeat::No),
            (stale, true, false, Repeat::No),
            (Failure::backend(Kind::Closed, false), true, true, Repeat::No),
            (Failure::backend(Kind::Refused, true), false, true, Repeat::There),
            (Failure::backend(Kind::Refused, true), true, false, Repeat::No),
            (Failure::backend(Kind::Timeout, true), true, true, Repeat::No),
            (Failure::backend(Kind::CutShort, true), true, true, Repeat::No),
            (Failure::backend(Kind::Drained, true), true, true, Repeat::No),
            (Failure::client(Kind::Closed), true, true, Repeat::No),
        ] {
            assert_eq!(failure.may_repeat(idempotent, whole), repeat, "{failure:?}");
        }
    }
}
