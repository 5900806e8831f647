//! The sealed token: who a session is pinned to and since when, proof against forgery.
//!
//! | bytes | 1 | 2 | 8 | 4 | 8 | 4 | 4 | 16 |
//! | --- | --- | --- | --- | --- | --- | --- | --- | --- |
//! | field | version | key id | backend ref | incarnation | session key | issued-at | last-seen | MAC |
//!
//! Integers are big-endian, times are Unix seconds of the wall clock. The MAC is SipHash-2-4 with 128 bits over all that
//! stands before it, under a key made for one pool. As text it is base64url without padding (RFC 4648 section 5).

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use siphasher::{sip::SipHasher24 as Sip64, sip128::SipHasher24 as Sip128};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

#[cfg(test)]
mod tests;
mod text;

/// Length of a sealed token as text, in bytes. Always exactly this.
pub const SEALED_LEN: usize = 63;

/// How far, in seconds, another node's clock may run ahead of ours before its tokens are refused as from the future.
pub const CLOCK_SKEW: u32 = 300;

const VERSION: u8 = 1;

const KEY_ID: usize = 1;
const BACKEND_REF: usize = KEY_ID + 2;
const INCARNATION: usize = BACKEND_REF + 8;
const SESSION_KEY: usize = INCARNATION + 4;
const ISSUED_AT: usize = SESSION_KEY + 8;
const LAST_SEEN: usize = ISSUED_AT + 4;
const MAC: usize = LAST_SEEN + 4;
const RAW_LEN: usize = MAC + 16;
/// In whole words, which is how texts become bytes.
const ROOM: usize = RAW_LEN + 1;

// Cookies of 64 characters at most are promised.
const _: () = assert!(SEALED_LEN == (RAW_LEN * 8).div_ceil(6) && SEALED_LEN <= 64);
const _: () =
    assert!(ROOM.is_multiple_of(24) && ROOM - RAW_LEN == 1, "texts end one byte before a group of bytes does");

/// A key's id as people read and write it.
pub fn id_name(id: u16) -> String {
    format!("{id:04x}")
}

/// One of the shared secrets. Each is derived from further, per pool and purpose, and seals nothing itself.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// What one pool seals and opens with.
#[derive(Clone, Debug)]
pub struct PoolKeys {
    keys: Box<[PoolKey]>,
}

/// What is known of a session that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The backend by [`PoolKeys::backend_ref`]: under the first key to seal, under [`Opened::key_index`] when opened.
    pub backend_ref: u64,
    pub incarnation: u32,
    pub session_key: u64,
    /// When the session began, in Unix seconds.
    pub issued_at: u32,
    /// When the token was last renewed, in Unix seconds.
    pub last_seen: u32,
}

/// A token whose MAC is right. Not yet checked for age, see [`expired`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which of the pool's keys sealed it. Other than 0, it is due to be sealed anew.
    pub key_index: usize,
    pub token: Token,
}

/// Why a text is no token of this pool. None of these is an error to the client: the request counts as unpinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Fewer characters than [`SEALED_LEN`]: cut, or another program's cookie.
    Short,
    /// More characters than [`SEALED_LEN`].
    Long,
    /// Not canonical base64url, or a version that this release does not know.
    Malformed,
    /// Sealed under none of the keys: forged, or older than the last rotation.
    UnknownKey,
    /// Changed, forged, or sealed for another pool; these can't be told apart.
    BadMac,
    /// Issued or renewed more than [`CLOCK_SKEW`] ahead of now.
    Future,
}

/// Why a token that opens is nevertheless over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// The session is as old as it may become.
    Lifetime,
    /// The session was silent for as long as it may be.
    Idle,
}

/// Whether `lifetime` has passed since the token was issued or `idle` since it was last seen, all in seconds.
/// At exactly the limit it is over, as with a cookie's `Max-Age`; `None` is no limit.
pub fn expired(token: &Token, now: u32, lifetime: Option<u32>, idle: Option<u32>) -> Option<Expiry> {
    let over = |since: u32, limit: Option<u32>| limit.is_some_and(|limit| now.saturating_sub(since) >= limit);
    if over(token.issued_at, lifetime) {
        Some(Expiry::Lifetime)
    } else if over(token.last_seen, idle) {
        Some(Expiry::Idle)
    } else {
        None
    }
}

impl PoolKeys {
    /// Derives what `pool` needs from each of `keys`: the first seals, all open. `None` without any key. This is work of
    /// microseconds per key, done when a table is built.
    pub fn new(pool: &str, keys: &[MasterKey]) -> Option<Self> {
        let keys: Box<[PoolKey]> = keys.iter().map(|master| PoolKey::new(pool, master)).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// What stands for a backend in the tokens of one key. It survives a change of address and tells nothing of the name.
    ///
    /// # Panics
    /// If `key_index` is not below the number of keys.
    pub fn backend_ref(&self, key_index: usize, backend: &str) -> u64 {
        Sip64::new_with_key(&self.keys[key_index].names).hash(backend.as_bytes())
    }

    /// A hash under the first key, for what clients must not be able to choose or foresee.
    pub fn keyed_hash(&self, bytes: &[u8]) -> u64 {
        Sip64::new_with_key(&self.keys[0].hashes).hash(bytes)
    }

    /// Writes the token under the first key. Allocates nothing.
    pub fn seal(&self, token: &Token, out: &mut [u8; SEALED_LEN]) {
        let key = &self.keys[0];
        let mut raw = [0; ROOM];
        raw[0] = VERSION;
        raw[KEY_ID..BACKEND_REF].copy_from_slice(&key.id.to_be_bytes());
        raw[BACKEND_REF..INCARNATION].copy_from_slice(&token.backend_ref.to_be_bytes());
        raw[INCARNATION..SESSION_KEY].copy_from_slice(&token.incarnation.to_be_bytes());
        raw[SESSION_KEY..ISSUED_AT].copy_from_slice(&token.session_key.to_be_bytes());
        raw[ISSUED_AT..LAST_SEEN].copy_from_slice(&token.issued_at.to_be_bytes());
        raw[LAST_SEEN..MAC].copy_from_slice(&token.last_seen.to_be_bytes());
        let mac = key.mac(&raw);
        raw[MAC..RAW_LEN].copy_from_slice(&mac);
        let written = URL_SAFE_NO_PAD.encode_slice(&raw[..RAW_LEN], out).expect("the lengths are asserted above");
        debug_assert_eq!(written, SEALED_LEN);
    }

    /// Reads a text that a client sent; `now` is in Unix seconds. Allocates nothing, and compares MACs in constant time.
    pub fn open(&self, text: &[u8], now: u32) -> Result<Opened, Refused> {
        let raw = decode(text)?;
        let id = u16::from_be_bytes(field(&raw, KEY_ID));
        let claimed = u128::from_ne_bytes(field(&raw, MAC));
        let mut refused = Refused::UnknownKey;
        // Ids are only 16 bits of a hash: keys that share one are all tried.
        for (key_index, key) in self.keys.iter().enumerate().filter(|(_, key)| key.id == id) {
            if u128::from_ne_bytes(key.mac(&raw)).ct_eq(&claimed).into() {
                return Token::read(&raw).not_after(now).map(|token| Opened { key_index, token });
            }
            refused = Refused::BadMac;
        }
        Err(refused)
    }
}

fn decode(text: &[u8]) -> Result<[u8; ROOM], Refused> {
    let Ok(text) = text.try_into() else {
        return Err(if text.len() < SEALED_LEN { Refused::Short } else { Refused::Long });
    };
    text::decode(text).filter(|raw| raw[0] == VERSION).ok_or(Refused::Malformed)
}

fn field<const N: usize>(raw: &[u8; ROOM], at: usize) -> [u8; N] {
    *raw[at..].first_chunk().expect("fields end before the token does")
}

impl Token {
    fn read(raw: &[u8; ROOM]) -> Self {
        Self {
            backend_ref: u64::from_be_bytes(field(raw, BACKEND_REF)),
            incarnation: u32::from_be_bytes(field(raw, INCARNATION)),
            session_key: u64::from_be_bytes(field(raw, SESSION_KEY)),
            issued_at: u32::from_be_bytes(field(raw, ISSUED_AT)),
            last_seen: u32::from_be_bytes(field(raw, LAST_SEEN)),
        }
    }

    fn not_after(self, now: u32) -> Result<Self, Refused> {
        let latest = now.saturating_add(CLOCK_SKEW);
        if self.issued_at > latest || self.last_seen > latest { Err(Refused::Future) } else { Ok(self) }
    }
}

/// The keys of one pool under one master key.
#[derive(Clone)]
struct PoolKey {
    id: u16,
    mac: [u8; 16],
    names: [u8; 16],
    hashes: [u8; 16],
}

impl PoolKey {
    fn new(pool: &str, master: &MasterKey) -> Self {
        Self {
            id: master.id(),
            mac: master.derive("steadfast 2026-11 token MAC", pool),
            names: master.derive("steadfast 2026-11 token backend ref", pool),
            hashes: master.derive("steadfast 2026-11 session key of first requests", pool),
        }
    }

    #[inline]
    fn mac(&self, raw: &[u8; ROOM]) -> [u8; 16] {
        Sip128::new_with_key(&self.mac).hash(&raw[..MAC]).as_bytes()
    }
}

impl MasterKey {
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// What names this key in tokens, logs and reports; the same on every node, and tells nothing of the secret.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes(self.derive("steadfast 2026-11 token key id", ""))
    }

    /// [`Self::id`] as people read and write it: four hexadecimal digits.
    pub fn name(&self) -> String {
        id_name(self.id())
    }

    // The secret has a fixed length, so that no two pairs of secret and pool run together to the same bytes.
    fn derive<const N: usize>(&self, purpose: &str, pool: &str) -> [u8; N] {
        let mut out = [0; N];
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&self.0).update(pool.as_bytes()).finalize_xof().fill(&mut out);
        out
    }
}

impl Drop for PoolKey {
    fn drop(&mut self) {
        [&mut self.mac, &mut self.names, &mut self.hashes].into_iter().for_each(Zeroize::zeroize);
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({:04x}, …)", self.id())
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKey({:04x}, …)", self.id)
    }
}
