//! The decisions: token, ring, choose, balance, sketches. Pure: no I/O, no clock, no randomness.

pub mod ages;
pub mod balance;
pub mod burn;
pub mod choose;
pub mod cookie;
pub mod decay;
pub mod drain;
pub mod foreign;
mod former;
pub mod free;
pub mod hash;
pub mod hot;
pub mod imbalance;
pub mod ledger;
pub mod marker;
pub mod preview;
pub mod rebalance;
pub mod release;
pub mod ring;
pub mod route;
pub mod sessions;
pub mod set_cookie;
pub mod sketch;
pub mod table;
pub mod token;
pub mod warming;
pub mod wheel;

#[cfg(test)]
mod testing;
