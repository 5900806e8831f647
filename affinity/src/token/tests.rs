use super::*;
use proptest::prelude::*;

const NOW: u32 = 1_790_000_000;

const TOKEN: Token = Token {
    backend_ref: 0x0102_0304_0506_0708,
    incarnation: 0x1112_1314,
    session_key: 0x2122_2324_2526_2728,
    issued_at: NOW - 3600,
    last_seen: NOW - 60,
};

fn key(fill: u8) -> MasterKey {
    MasterKey::new([fill; 32])
}

fn pool(name: &str, keys: &[MasterKey]) -> PoolKeys {
    PoolKeys::new(name, keys).unwrap()
}

fn sealed(keys: &PoolKeys, token: &Token) -> [u8; SEALED_LEN] {
    let mut out = [0; SEALED_LEN];
    keys.seal(token, &mut out);
    out
}

/// Seals anything as a token of `keys`, whether or not a token would be like that.
fn forge(keys: &PoolKeys, change: impl Fn(&mut [u8; RAW_LEN])) -> [u8; SEALED_LEN] {
    let mut room = decode(&sealed(keys, &TOKEN)).unwrap();
    let raw = room.first_chunk_mut().unwrap();
    change(raw);
    let mac = keys.keys[0].mac(&room);
    room[MAC..RAW_LEN].copy_from_slice(&mac);
    encode(room.first_chunk().unwrap())
}

fn encode(raw: &[u8; RAW_LEN]) -> [u8; SEALED_LEN] {
    let mut out = [0; SEALED_LEN];
    URL_SAFE_NO_PAD.encode_slice(raw, &mut out).unwrap();
    out
}

/// Frozen: another text here, or another ref, unpins every session of every site at the next upgrade.
#[test]
fn format_is_frozen() {
    let secret = std::array::from_fn(|i| i as u8);
    let keys = pool("shop", &[MasterKey::new(secret)]);
    let backend_ref = keys.backend_ref(0, "app-1");
    assert_eq!(backend_ref, 0x9A55_80BA_EE21_B224);
    let token = Token { backend_ref, ..TOKEN };
    let text = sealed(&keys, &token);
    assert_eq!(str::from_utf8(&text).unwrap(), "AetVmlWAuu4hsiQREhMUISIjJCUmJyhqsS1warE7RHD1DcgTsuK9W2t28LfoxzM");
    assert_eq!(keys.open(&text, NOW), Ok(Opened { key_index: 0, token }));
}

#[test]
fn every_flipped_bit_is_refused() {
    let keys = pool("shop", &[key(1)]);
    let room = decode(&sealed(&keys, &TOKEN)).unwrap();
    let raw: [u8; RAW_LEN] = *room.first_chunk().unwrap();
    for bit in 0..RAW_LEN * 8 {
        let mut flipped = raw;
        flipped[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0 => Refused::Malformed,
            1..BACKEND_REF => Refused::UnknownKey,
            _ => Refused::BadMac,
        };
        assert_eq!(keys.open(&encode(&flipped), NOW), Err(expected), "bit {bit}");
    }
}

#[test]
fn every_other_character_is_refused() {
    let keys = pool("shop", &[key(1)]);
    let text = sealed(&keys, &TOKEN);
    for at in 0..SEALED_LEN {
        for byte in (0..=u8::MAX).filter(|&byte| byte != text[at]) {
            let mut changed = text;
            changed[at] = byte;
            let refused = keys.open(&changed, NOW).unwrap_err();
            let in_alphabet = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            assert!(in_alphabet || refused == Refused::Malformed, "{byte} at {at}: {refused:?}");
        }
    }
}

#[test]
fn trailing_bits_are_refused() {
    let keys = pool("shop", &[key(1)]);
    let text = sealed(&keys, &TOKEN);
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = ALPHABET.iter().position(|&c| c == text[SEALED_LEN - 1]).unwrap();
    assert_eq!(last % 4, 0);
    for bits in 1..4 {
        let mut other = text;
        other[SEALED_LEN - 1] = ALPHABET[last + bits];
        assert_eq!(keys.open(&other, NOW), Err(Refused::Malformed));
    }
}

#[test]
fn other_lengths_are_refused() {
    let keys = pool("shop", &[key(1)]);
    let text = sealed(&keys, &TOKEN);
    for len in 0..SEALED_LEN {
        assert_eq!(keys.open(&text[..len], NOW), Err(Refused::Short), "first {len}");
        assert_eq!(keys.open(&text[SEALED_LEN - len..], NOW), Err(Refused::Short), "last {len}");
    }
    let padded = [&text[..], b"="].concat();
    for long in [padded, text.repeat(2), vec![b'A'; 8192]] {
        assert_eq!(keys.open(&long, NOW), Err(Refused::Long));
    }
}

#[test]
fn other_pools_keys_and_versions_are_refused() {
    let text = sealed(&pool("shop", &[key(1)]), &TOKEN);
    let cases = [
        (pool("shop2", &[key(1)]), Refused::BadMac),
        (pool("", &[key(1)]), Refused::BadMac),
        (pool("shop", &[key(2)]), Refused::UnknownKey),
        (pool("shop", &[key(2), key(3)]), Refused::UnknownKey),
    ];
    for (keys, refused) in cases {
        assert_eq!(keys.open(&text, NOW), Err(refused), "{keys:?}");
    }
    let keys = pool("shop", &[key(1)]);
    for version in (0..=u8::MAX).filter(|&version| version != VERSION) {
        assert_eq!(keys.open(&forge(&keys, |raw| raw[0] = version), NOW), Err(Refused::Malformed));
    }
    assert!(PoolKeys::new("shop", &[]).is_none());
}

#[test]
fn rotated_keys_open() {
    let old = pool("shop", &[key(1)]);
    let token = Token { backend_ref: old.backend_ref(0, "app-1"), ..TOKEN };
    let text = sealed(&old, &token);
    for (keys, key_index) in [(pool("shop", &[key(2), key(1)]), 1), (pool("shop", &[key(3), key(2), key(1)]), 2)] {
        assert_eq!(keys.open(&text, NOW), Ok(Opened { key_index, token }));
        assert_eq!(keys.backend_ref(key_index, "app-1"), token.backend_ref);
        assert_ne!(keys.backend_ref(0, "app-1"), token.backend_ref);
        assert_eq!(keys.open(&sealed(&keys, &token), NOW).map(|opened| opened.key_index), Ok(0));
    }
}

#[test]
fn keys_with_one_id_are_all_tried() {
    let mut keys = pool("shop", &[key(1), key(2), key(3)]);
    let id = keys.keys[0].id;
    keys.keys.iter_mut().for_each(|key| key.id = id);
    for key_index in 0..3 {
        keys.keys.swap(0, key_index);
        let text = sealed(&keys, &TOKEN);
        keys.keys.swap(0, key_index);
        assert_eq!(keys.open(&text, NOW), Ok(Opened { key_index, token: TOKEN }));
    }
    let mut other = pool("shop", &[key(4)]);
    other.keys[0].id = id;
    assert_eq!(keys.open(&sealed(&other, &TOKEN), NOW), Err(Refused::BadMac));
}

#[test]
fn the_future_is_refused() {
    let keys = pool("shop", &[key(1)]);
    let cases = [
        (0, 0, true),
        (CLOCK_SKEW, CLOCK_SKEW, true),
        (CLOCK_SKEW + 1, 0, false),
        (0, CLOCK_SKEW + 1, false),
        (u32::MAX - NOW, u32::MAX - NOW, false),
    ];
    for (issued, seen, opens) in cases {
        let token = Token { issued_at: NOW + issued, last_seen: NOW + seen, ..TOKEN };
        let expected = if opens { Ok(Opened { key_index: 0, token }) } else { Err(Refused::Future) };
        assert_eq!(keys.open(&sealed(&keys, &token), NOW), expected, "{issued} {seen}");
    }
    let last = Token { issued_at: u32::MAX, last_seen: u32::MAX, ..TOKEN };
    assert!(keys.open(&sealed(&keys, &last), u32::MAX).is_ok());
}

#[test]
fn expiry() {
    use Expiry::{Idle, Lifetime};
    let cases = [
        // issued and seen this long ago; lifetime; idle; expected
        (100, 10, None, None, None),
        (100, 10, Some(101), Some(11), None),
        (100, 10, Some(100), Some(11), Some(Lifetime)),
        (100, 10, Some(101), Some(10), Some(Idle)),
        (100, 10, None, Some(10), Some(Idle)),
        (100, 10, Some(99), None, Some(Lifetime)),
        (100, 100, Some(50), Some(50), Some(Lifetime)),
        (0, 0, Some(1), Some(1), None),
    ];
    for (issued, seen, lifetime, idle, expected) in cases {
        let token = Token { issued_at: NOW - issued, last_seen: NOW - seen, ..TOKEN };
        assert_eq!(expired(&token, NOW, lifetime, idle), expected, "{issued} {seen} {lifetime:?} {idle:?}");
    }
    let ahead = Token { issued_at: NOW + CLOCK_SKEW, last_seen: NOW + CLOCK_SKEW, ..TOKEN };
    assert_eq!(expired(&ahead, NOW, Some(1), Some(1)), None);
}

#[test]
fn refs_differ_by_pool_key_and_name() {
    let shop = pool("shop", &[key(1), key(2)]);
    let blog = pool("blog", &[key(1)]);
    let refs = [
        shop.backend_ref(0, "app-1"),
        shop.backend_ref(0, "app-2"),
        shop.backend_ref(1, "app-1"),
        blog.backend_ref(0, "app-1"),
    ];
    for (i, one) in refs.iter().enumerate() {
        assert!(refs[..i].iter().all(|other| other != one));
    }
}

#[test]
fn debug_shows_no_secret() {
    let master = key(0xAB);
    let shown = format!("{master:?} {:?}", pool("shop", std::slice::from_ref(&master)));
    let id = format!("{:04x}", master.id());
    assert_eq!(shown, format!("MasterKey({id}, …) PoolKeys {{ keys: [PoolKey({id}, …)] }}"));
}

proptest! {
    #[test]
    fn round_trip(
        (backend_ref, incarnation, session_key) in any::<(u64, u32, u64)>(),
        issued_at in 0..=NOW, last_seen in 0..=NOW, secret: [u8; 32], name: String,
    ) {
        let keys = pool(&name, &[MasterKey::new(secret)]);
        let token = Token { backend_ref, incarnation, session_key, issued_at, last_seen };
        let text = sealed(&keys, &token);
        prop_assert!(crate::cookie::is_cookie_value_octets(&text));
        prop_assert_eq!(keys.open(&text, NOW), Ok(Opened { key_index: 0, token }));
    }

    #[test]
    fn noise_does_not_open(text in proptest::collection::vec(any::<u8>(), 0..130)) {
        prop_assert!(pool("shop", &[key(1)]).open(&text, NOW).is_err());
    }
}

/// As the library that seals reads it.
fn as_base64_says(text: &[u8; SEALED_LEN]) -> Option<[u8; RAW_LEN]> {
    let mut room = [0; ROOM];
    URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok().map(|_| *room.first_chunk().unwrap())
}

fn bytes(text: &[u8; SEALED_LEN]) -> Option<[u8; RAW_LEN]> {
    text::decode(text).map(|room| *room.first_chunk().unwrap())
}

#[test]
fn any_byte_at_any_place_is_read_as_base64_says() {
    let keys = pool("shop", &[key(1)]);
    let text = sealed(&keys, &TOKEN);
    for (at, byte) in (0..SEALED_LEN).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte))) {
        let mut text = text;
        text[at] = byte;
        assert_eq!(bytes(&text), as_base64_says(&text), "{byte:#04x} at {at}");
    }
}

proptest! {
    #[test]
    fn texts_are_read_as_base64_says(raw: [u8; 32], rest: [u8; RAW_LEN - 32], other: [u8; 32], others: [u8; SEALED_LEN - 32]) {
        let raw = [&raw[..], &rest].concat().try_into().unwrap();
        prop_assert_eq!(bytes(&encode(&raw)), Some(raw));
        let text = [&other[..], &others].concat().try_into().unwrap();
        prop_assert_eq!(bytes(&text), as_base64_says(&text));
    }
}
