//! What is counted, each with its name and meaning: one list for the workers that count, the messages that carry, and
//! the metrics that show. Names are stable; a Prometheus name is `steadfast_<scope>_<name>_total`.

macro_rules! counters {
    ($(#[$doc:meta])* $scope:ident { $($variant:ident $name:literal $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $scope { $(#[doc = $help] $variant,)* }

        impl $scope {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

counters! {
    /// Counted for each worker and summed over the data plane.
    Dataplane {
        Accepted "connections_accepted" "Client connections accepted.",
        Closed "connections_closed" "Client connections closed, for whatever reason.",
        OverLimit "connections_over_limit" "Client connections closed at once because the listener had as many as it may.",
        OverAddress "connections_over_address_limit" "Client connections closed at once because their address had as many as one may have.",
        OverHandshakes "connections_over_handshake_limit" "Client connections closed at once because as many TLS handshakes were under way as may be.",
        OverRequests "connections_over_request_limit" "Client connections closed behind as many requests as may come on one.",
        AcceptFailed "accept_failures" "Failed accepts, as at descriptor exhaustion; accepting pauses after one.",
        DescriptorPauses "descriptor_pauses" "Tenths of a second for which a socket was not accepted on because what was left of the descriptors is kept for backends.",
        MemoryPauses "memory_pauses" "Tenths of a second for which a socket was not accepted on because the data plane had as much memory as it may.",
        Requests "requests" "Requests whose head was read whole.",
        BadRequests "bad_requests" "Requests refused for their form: 400, 413, 414, 431, 501, 505.",
        HeadTimeouts "head_timeouts" "Requests whose head did not come in time: 408.",
        BodyTimeouts "body_timeouts" "Exchanges whose client was too slow with a body, its own or the response's.",
        IdleClosed "idle_closed" "Kept connections closed because no request came in time.",
        ClientAborts "client_aborts" "Exchanges that ended because the client went away.",
        NoRoute "no_route" "Requests that match no route: 503.",
        TlsHandshakes "tls_handshakes" "TLS handshakes that led to a connection.",
        TlsResumed "tls_resumed" "Those of them that went on from an earlier one, by a ticket.",
        TlsFailed "tls_failed" "TLS handshakes that failed: nothing in common, a certificate that was refused, or the client went.",
        TlsTimeouts "tls_timeouts" "TLS handshakes that did not come to their end in time.",
        TlsPlain "tls_plain" "Connections in clear text to a listener with TLS: 400.",
        ProxyRefused "proxy_refused" "Connections of proxies without a header of the PROXY protocol that can be read in time.",
        Http2Connections "http2_connections" "Connections on which clients began to speak HTTP/2.",
        Http2Failed "http2_failed" "Those of them that ended for what no client may send.",
        Http2Floods "http2_floods" "Those of them that ended because their frames asked for much work and brought little.",
        Http2Streams "http2_streams" "Streams that clients have opened on them, with a request each.",
        Http2Cancelled "http2_cancelled" "Streams that clients took back, or lost with their connection, before the response was sent whole.",
        Http2Broken "http2_broken" "Streams reset by us because the response broke off.",
        Redirected "redirected" "Requests sent to https: 308.",
        AccessLogWritten "access_log_written" "Lines written to the access log.",
        AccessLogLost "access_log_lost" "Lines that the access log lost: as many waited as may, or they could not be written.",
        Applied "generations_applied" "Generations of the desired state applied.",
    }
}

counters! {
    /// Of each worker by itself, where one may be worse off than the others.
    WorkerCount {
        Requests "requests" "Requests whose head was read whole.",
        Cpu "cpu_milliseconds" "Processor time of the worker's thread.",
        Late "late_milliseconds" "How much later than due the worker came to look at its clock, summed: what others had to wait for one that took long.",
        Ring "ring_operations" "Reads, writes and waits that were left to the ring.",
        Direct "direct_operations" "Reads, writes and accepts that were tried at once, past the ring.",
    }
}

counters! {
    /// Counted for each pool: what became of the sessions.
    PoolCount {
        Requests "requests" "Requests routed to the pool.",
        Pinned "pinned" "Requests that came with a pin and reached it.",
        Unpinned "unpinned" "Requests without a marker: new sessions, in a pool with affinity.",
        TokenMalformed "token_malformed" "Tokens refused for their form.",
        TokenUnknownKey "token_unknown_key" "Tokens sealed with a key that is not in the list.",
        TokenBadMac "token_bad_mac" "Tokens whose MAC is wrong: forged or damaged.",
        TokenOtherPool "token_other_pool" "Tokens of another pool.",
        TokenFuture "token_future" "Tokens from the future: clocks differ by more than the allowance.",
        Adopted "adopted" "Sessions that came with another balancer's cookie and go on at the backend that it names, or move as their own would.",
        AdoptUnknown "adopt_unknown" "Cookies of other balancers that name no backend which is here.",
        ExpiredLifetime "expired_lifetime" "Sessions ended by their lifetime.",
        ExpiredIdle "expired_idle" "Sessions ended by their idle timeout.",
        RepinnedDown "repinned_down" "Sessions bound to another backend because theirs was down.",
        RepinnedMaintenance "repinned_maintenance" "Sessions bound to another backend because theirs was in maintenance.",
        RepinnedDraining "repinned_draining" "Requests that hash to a draining backend, sent to the next one.",
        RepinnedMigrate "repinned_migrate" "Sessions bound to another backend because theirs drains and it was their turn to move.",
        RepinnedRebalance "repinned_rebalance" "Sessions bound to another backend because theirs had more than its share and the pool was rebalanced.",
        RepinnedDeadline "repinned_deadline" "Sessions bound to another backend because theirs had drained up to its deadline.",
        RepinnedRemoved "repinned_removed" "Sessions bound to another backend because theirs was removed.",
        RepinnedRetry "repinned_retry" "Sessions bound to another backend because theirs failed this very request.",
        RepinnedOverload "repinned_overload" "Sessions named anew by another backend, which served them because theirs had no room.",
        Spilled "spilled" "Requests sent elsewhere because their backend could not be used, the pin unchanged.",
        SpilledOverload "spilled_overload" "Requests sent elsewhere because their backend had no room, the pin unchanged.",
        RepinnedReleased "repinned_released" "Sessions named anew by another backend, which served them because a release had let them go.",
        Released "released" "Requests of released sessions, sent elsewhere than to their pin, which is unchanged.",
        Uncompared "uncompared" "Requests of a pool with a release that were left out of the comparison for want of time.",
        Queued "queued" "Requests that waited for a backend with room.",
        QueueFull "queue_full" "Requests answered 503 because no backend had room and as many waited as may.",
        QueueTimeouts "queue_timeouts" "Requests answered 503 because no backend had room in time.",
        LostIncarnation "lost_incarnation" "Sessions whose backend came back as a new incarnation, their state gone.",
        EndedRemoved "ended_removed" "Requests of sessions that can't move and whose backend was removed: gone_status.",
        EndedIncarnation "ended_incarnation" "Requests of sessions that can't move and whose backend is a new incarnation: gone_status.",
        EndedDown "ended_down" "Requests of sessions that can't move and whose backend was down: gone_status.",
        EndedMaintenance "ended_maintenance" "Requests of sessions that can't move and whose backend was in maintenance: gone_status.",
        EndedUnreadable "ended_unreadable" "Requests that name a session by a token that does not open: gone_status.",
        FailedDown "failed_down" "Requests answered 503 because their backend was unusable and on_down is fail.",
        NoBackend "no_backend" "Requests answered 503 because no backend was usable.",
        Retries "retries" "Requests tried at another backend.",
        RetriesDenied "retries_denied" "Retries that the budget did not allow.",
    }
}

/// What a count of a pool says of the markers that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// The request reached its pin.
    Reached,
    /// It came with a pin and did not reach it.
    Left,
    /// Its marker counted as none.
    Refused,
    /// Nothing, or what another count says already.
    Nothing,
}

impl PoolCount {
    /// Spelled out, so that a new cause can't be left out of what stickiness is said to cost.
    pub const fn tells(self) -> Tells {
        match self {
            Self::Pinned => Tells::Reached,
            Self::RepinnedDown
            | Self::RepinnedMaintenance
            | Self::RepinnedDraining
            | Self::RepinnedMigrate
            | Self::RepinnedRebalance
            | Self::RepinnedDeadline
            | Self::RepinnedRemoved
            | Self::RepinnedRetry
            | Self::RepinnedOverload
            | Self::RepinnedReleased
            | Self::Released
            | Self::Spilled
            | Self::SpilledOverload
            | Self::LostIncarnation
            | Self::EndedRemoved
            | Self::EndedIncarnation
            | Self::EndedDown
            | Self::EndedMaintenance
            | Self::FailedDown => Tells::Left,
            Self::TokenMalformed
            | Self::TokenUnknownKey
            | Self::TokenBadMac
            | Self::TokenOtherPool
            | Self::TokenFuture
            | Self::AdoptUnknown
            | Self::ExpiredLifetime
            | Self::ExpiredIdle => Tells::Refused,
            Self::Requests
            | Self::Unpinned
            | Self::Adopted
            | Self::Uncompared
            | Self::Queued
            | Self::QueueFull
            | Self::QueueTimeouts
            | Self::EndedUnreadable
            | Self::NoBackend
            | Self::Retries
            | Self::RetriesDenied => Tells::Nothing,
        }
    }
}

counters! {
    /// Counted for each backend.
    BackendCount {
        Requests "requests" "Requests sent to the backend.",
        Responses2xx "responses_2xx" "Responses with status 200 to 299.",
        Responses3xx "responses_3xx" "Responses with status 300 to 399.",
        Responses4xx "responses_4xx" "Responses with status 400 to 499.",
        Responses5xx "responses_5xx" "Responses with status 500 to 599.",
        Connects "connects" "Connections opened to the backend.",
        ConnectFailures "connect_failures" "Connections that could not be opened.",
        NoPort "no_local_port" "Connections that could not be opened because this machine had no port left towards the backend.",
        TlsFailures "tls_failures" "TLS handshakes with the backend that failed, as where its certificate is not trusted.",
        Reused "reused" "Requests sent on an idle connection.",
        Resets "resets" "Exchanges that the backend broke off.",
        Timeouts "timeouts" "Exchanges in which the backend did not answer in time.",
        ClosedByDrain "closed_by_drain" "Exchanges cut because a drain ended that was to close what is open.",
        BadResponses "bad_responses" "Responses refused for their form: 502.",
        SessionsNew "sessions_new" "Sessions pinned to the backend at their first request.",
        SessionsArrived "sessions_arrived" "Sessions bound to the backend that came from another.",
        SessionsLost "sessions_lost" "Sessions of the backend that had to leave it, their state lost.",
        BytesToBackend "bytes_to_backend" "Bytes sent to the backend.",
        BytesFromBackend "bytes_from_backend" "Bytes received from the backend.",
        Busy "busy_milliseconds" "Time that requests were at the backend, all added up.",
        FreeRequests "free_requests" "Requests that the backend would have been sent, had each been balanced freely.",
        FreeBusy "free_busy_milliseconds" "Time that these would have been at the backend.",
        TunnelsOpened "tunnels_opened" "Exchanges that became tunnels, as WebSockets do: 101.",
        TunnelsClosedClient "tunnels_closed_by_client" "Tunnels that the client closed.",
        TunnelsClosedBackend "tunnels_closed_by_backend" "Tunnels that the backend closed.",
        TunnelsBrokenClient "tunnels_broken_by_client" "Tunnels that ended because the client reset its connection.",
        TunnelsBrokenBackend "tunnels_broken_by_backend" "Tunnels that ended because the backend reset its connection.",
        TunnelsIdle "tunnels_idle" "Tunnels closed because no byte moved for timeouts.tunnel.",
        TunnelsDrained "tunnels_drained" "Tunnels closed because their backend came into maintenance or was removed, at a drain's end too.",
        TunnelsStopped "tunnels_stopped" "Tunnels closed because the data plane was to stop.",
        TunnelBytesToBackend "tunnel_bytes_to_backend" "Bytes sent to the backend through tunnels.",
        TunnelBytesFromBackend "tunnel_bytes_from_backend" "Bytes received from the backend through tunnels.",
    }
}

counters! {
    /// Counted for each route of a listener that leads to a pool whose clients carry what says where their session is.
    RouteCount {
        Requests "requests" "Requests that may come with a marker.",
        Unmarked "unmarked" "Those that came without one.",
        Ignored "ignored" "Those of them on a connection on which one had been set.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_order_is_the_discriminant() {
        let names: BTreeSet<_> = BackendCount::ALL.iter().map(|count| count.name()).collect();
        assert_eq!(names.len(), BackendCount::COUNT);
        let names: BTreeSet<_> = PoolCount::ALL.iter().map(|count| count.name()).collect();
        assert_eq!(names.len(), PoolCount::COUNT);
        assert!(Dataplane::ALL.iter().enumerate().all(|(at, count)| *count as usize == at));
    }
}
