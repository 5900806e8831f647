//! Criterion benches and the wrk comparison with peers.
