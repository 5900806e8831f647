//! Tokens: what was sealed opens as what it was, and nothing else does.

use super::super::input::Input;
use affinity::token::{MasterKey, Opened, PoolKeys, Refused, SEALED_LEN, Token, expired};
use std::sync::LazyLock;

/// Keys of one pool, as one and each by itself, and those of another pool.
struct Keys {
    both: PoolKeys,
    each: [PoolKeys; 2],
    other: PoolKeys,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let keys = [MasterKey::new([1; 32]), MasterKey::new([2; 32])];
    let of = |pool, keys: &[MasterKey]| PoolKeys::new(pool, keys).expect("there are keys");
    Keys { both: of("shop", &keys), each: [of("shop", &keys[..1]), of("shop", &keys[1..])], other: of("shop2", &keys) }
});

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let now = input.number() as u32;
    let token = Token {
        backend_ref: input.number(),
        incarnation: input.number() as u32,
        session_key: input.number(),
        issued_at: input.number() as u32,
        last_seen: input.number() as u32,
    };
    let (sealer, at, bit) = (usize::from(input.byte()) % 2, usize::from(input.byte()) % SEALED_LEN, input.byte() % 8);
    any_text(input.rest(), now);
    any_text(data, now);
    let mut sealed = [0; SEALED_LEN];
    KEYS.each[sealer].seal(&token, &mut sealed);
    let latest = now.saturating_add(affinity::token::CLOCK_SKEW);
    let is_future = token.issued_at > latest || token.last_seen > latest;
    let expected = if is_future { Err(Refused::Future) } else { Ok(Opened { key_index: sealer, token }) };
    assert_eq!(KEYS.both.open(&sealed, now), expected);
    assert!(matches!(KEYS.other.open(&sealed, now), Err(Refused::BadMac)));
    assert_eq!(KEYS.each[1 - sealer].open(&sealed, now), Err(Refused::UnknownKey));
    assert_eq!(KEYS.both.open(&sealed[..at], now), Err(Refused::Short));
    assert_eq!(KEYS.both.open(&[&sealed[..], b"A"].concat(), now), Err(Refused::Long));
    assert!(expired(&token, now, None, None).is_none());
    sealed[at] ^= 1 << bit;
    let opened = KEYS.both.open(&sealed, now);
    assert!(!matches!(opened, Ok(_) | Err(Refused::Future)), "a bit makes no difference: {opened:?}");
}

/// What opens is what sealing gives, to the last character.
fn any_text(text: &[u8], now: u32) {
    let Ok(Opened { key_index, token }) = KEYS.both.open(text, now) else { return };
    let mut sealed = [0; SEALED_LEN];
    KEYS.each[key_index].seal(&token, &mut sealed);
    assert_eq!(text, sealed);
}
