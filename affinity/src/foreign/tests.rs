use super::*;
use control::spec::Secret;

/// `printf 127.0.0.1:8080 | md5sum`
const MD5_OF_V4: &str = "5958c386bf5e9109ac10d2a628645aea";
/// `printf '[::1]:8080' | md5sum`
const MD5_OF_V6: &str = "1c2e56fe441d2a91a692b6e4ac8b5c9b";
/// `printf shop-web-8010.0.0.2:80 | md5sum`
const MD5_SALTED: &str = "0b3007d6c1784730449adec29fc82896";
/// `printf http://10.0.0.1:80 | sha256sum | head -c 16`
const SHA_OF_URL: &str = "df5bd2f9c0180410";

fn known<'a>(name: &'a str, configured: &'a str) -> Known<'a> {
    Known { name, configured, address: configured.parse().ok() }
}

fn foreign(from: AdoptFrom, backends: &[Known<'_>]) -> Foreign {
    let adopt = Adopt { from: Some(from), cookie: "SERVERID".to_owned(), ..Adopt::default() };
    Foreign::new(&adopt, backends).unwrap()
}

/// Published vectors of FNV-1: draft-eastlake-fnv, and those of Go's `hash/fnv`.
#[test]
fn fnv1_is_as_published() {
    for (text, hash) in [
        ("", 0xCBF2_9CE4_8422_2325),
        ("a", 0xAF63_BD4C_8601_B7BE),
        ("ab", 0x0832_6707_B4EB_37B8),
        ("abc", 0xD8DC_CA18_6BAF_ADCB),
    ] {
        assert_eq!(fnv1(text.as_bytes()), hash, "{text}");
    }
}

/// RFC 1321 and FIPS 180-4.
#[test]
fn digests_are_as_published() {
    assert_eq!(md5_hex("abc".to_owned()), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(hex(&Sha256::digest("abc")[..8]), "ba7816bf8f01cfea");
}

#[test]
fn haproxy_names_its_servers_and_may_date_the_value() {
    let foreign = foreign(AdoptFrom::Haproxy, &[known("s1", "10.0.0.1:80"), known("s2", "10.0.0.2:80")]);
    for (value, backend) in [
        ("s1", Some(0)),
        ("s2", Some(1)),
        ("s2|Zx9aQ", Some(1)),
        ("s2|Zx9aQ|Zx8bb", Some(1)),
        ("s3", None),
        ("S1", None),
        ("", None),
        ("|Zx9aQ", None),
    ] {
        assert_eq!(foreign.backend(value.as_bytes()), backend, "{value}");
    }
}

#[test]
fn values_lead_before_all_else() {
    let values = [("w1", "s2"), ("s1", "s2"), ("old", "gone")];
    let adopt = Adopt {
        from: Some(AdoptFrom::Haproxy),
        cookie: "SERVERID".to_owned(),
        values: values.iter().map(|(value, name)| ((*value).to_owned(), (*name).to_owned())).collect(),
        ..Adopt::default()
    };
    let foreign = Foreign::new(&adopt, &[known("s1", "10.0.0.1:80"), known("s2", "10.0.0.2:80")]).unwrap();
    for (value, backend) in [("w1", Some(1)), ("w1|Zx9aQ", Some(1)), ("s1", Some(1)), ("s2", Some(1)), ("old", None)] {
        assert_eq!(foreign.backend(value.as_bytes()), backend, "{value}");
    }
}

/// Real cookies are held against this in `tests/adopt.rs`; IPv6 and bytes above 127 are not, so they stand here.
#[test]
fn the_dynamic_key_covers_address_and_port() {
    let adopt = |key: &str| Adopt {
        from: Some(AdoptFrom::HaproxyDynamic),
        cookie: "SERVERID".to_owned(),
        key: Some(Secret(key.to_owned())),
        ..Adopt::default()
    };
    let backends = [known("a", "10.0.0.1:80"), known("b", "[fd00::7]:80"), known("c", "app.internal:80")];
    let foreign = Foreign::new(&adopt("k"), &backends).unwrap();
    let of = |bytes: &[u8]| format!("{:016x}", xxh64(bytes, 0));
    let v6 = [&b"k"[..], &[0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], &[0, 0, 0, 80]].concat();
    assert_eq!(foreign.backend(of(b"k\x0a\x00\x00\x01\x00\x00\x00\x50").as_bytes()), Some(0));
    assert_eq!(foreign.backend(of(&v6).as_bytes()), Some(1));
    assert_eq!(foreign.named.len(), 2, "what has not resolved has no value");
    let other = Foreign::new(&adopt("other"), &backends).unwrap();
    assert_eq!(other.backend(of(&v6).as_bytes()), None);
}

/// `ngx_http_upstream_init_round_robin_sid` of nginx 1.29.6 and later: the MD5 of the address as it is printed.
#[test]
fn nginx_hashes_the_address() {
    let foreign = foreign(AdoptFrom::Nginx, &[known("a", "127.0.0.1:8080"), known("b", "[::1]:8080")]);
    for (value, backend) in [(MD5_OF_V4, Some(0)), (MD5_OF_V6, Some(1)), ("", None), ("127.0.0.1:8080", None)] {
        assert_eq!(foreign.backend(value.as_bytes()), backend, "{value}");
    }
}

/// `rootfs/etc/nginx/lua/util/nodemap.lua` and `balancer/sticky.lua` of ingress-nginx.
#[test]
fn ingress_nginx_salts_with_its_service() {
    let adopt = Adopt {
        from: Some(AdoptFrom::IngressNginxPersistent),
        cookie: "INGRESSCOOKIE".to_owned(),
        service: Some("shop-web-80".to_owned()),
        ..Adopt::default()
    };
    let foreign = Foreign::new(&adopt, &[known("a", "10.0.0.1:80"), known("b", "10.0.0.2:80")]).unwrap();
    let value = format!("{MD5_SALTED}|{MD5_SALTED}");
    assert_eq!(foreign.backend(MD5_SALTED.as_bytes()), Some(1));
    assert_eq!(foreign.backend(value.as_bytes()), Some(1));
    assert_eq!(foreign.backend(b"1700000000.123.45.678901"), None);
}

#[test]
fn ingress_nginx_places_balanced_sessions_on_its_ring() {
    let backends = [known("a", "10.0.0.1:80"), known("b", "10.0.0.2:80"), known("c", "10.0.0.3:80")];
    let foreign = foreign(AdoptFrom::IngressNginx, &backends);
    let ring = Ketama::new((0..).zip(backends).map(|(at, backend)| (at, backend.configured.to_owned(), 1)));
    for session in 0..100 {
        let key = format!("1700000000.123.45.{session}");
        let backend = ring.find(key.as_bytes());
        assert!(backend.is_some());
        assert_eq!(foreign.backend(key.as_bytes()), backend);
        assert_eq!(foreign.backend(format!("{key}|0123456789abcdef").as_bytes()), backend);
    }
    for value in ["", "|x", "abc", "1700000000.1.1.1;"] {
        assert_eq!(foreign.backend(value.as_bytes()), None, "{value}");
    }
}

/// The four forms that `sticky.go` of Traefik 3.7 accepts; digests by `sha256sum` and the FNV-1 above.
#[test]
fn traefik_hashes_the_url() {
    let backends = [known("a", "10.0.0.1:80"), known("b", "app.internal:8080")];
    let foreign = foreign(AdoptFrom::Traefik, &backends);
    let once = format!("{:x}", fnv1(b"http://10.0.0.1:80"));
    let twice = format!("{:x}", fnv1(once.as_bytes()));
    for (value, backend) in [
        ("http://10.0.0.1:80", Some(0)),
        ("http://10.0.0.1:80/", Some(0)),
        (SHA_OF_URL, Some(0)),
        (&once, Some(0)),
        (&twice, Some(0)),
        ("http://app.internal:8080", Some(1)),
        ("https://10.0.0.1:80", None),
        ("10.0.0.1:80", None),
    ] {
        assert_eq!(foreign.backend(value.as_bytes()), backend, "{value}");
    }
}

/// Both forms of Envoy's `stateful_session/cookie`: the bare address, and the message that its integration test reads.
#[test]
fn envoy_encodes_the_address() {
    let foreign = foreign(AdoptFrom::Envoy, &[known("a", "127.0.0.1:50000"), known("b", "[::1]:50000")]);
    let message = |address: &str, more: &[u8]| {
        let mut bytes = vec![0x0A, u8::try_from(address.len()).unwrap()];
        bytes.extend(address.as_bytes().iter().chain(more));
        LENIENT.encode(bytes)
    };
    let expires = [0x10, 0xE5, 0xF9, 0xA1, 0xAA, 0x06];
    for (value, backend) in [
        ("MTI3LjAuMC4xOjUwMDAw".to_owned(), Some(0)),
        (LENIENT.encode("[::1]:50000"), Some(1)),
        (LENIENT.encode("[::1]:50000").trim_end_matches('=').to_owned(), Some(1)),
        (message("127.0.0.1:50000", &expires), Some(0)),
        (message("[::1]:50000", &[]), Some(1)),
        (message("127.0.0.2:50000", &expires), None),
        (LENIENT.encode([0x0A]), None),
        (LENIENT.encode([0x0A, 200, 1]), None),
        (LENIENT.encode([b'x'; 200]), None),
        ("not base64!".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(foreign.backend(value.as_bytes()), backend, "{value}");
    }
}

#[test]
fn a_cookie_is_deleted_where_it_was_set() {
    let adopt = Adopt {
        from: Some(AdoptFrom::Haproxy),
        cookie: "SERVERID".to_owned(),
        delete: true,
        path: "/app".to_owned(),
        domain: Some("example.com".to_owned()),
        ..Adopt::default()
    };
    let line =
        |adopt: &Adopt| Foreign::new(adopt, &[]).unwrap().deletion.map(|line| String::from_utf8(line.into()).unwrap());
    let expected = "Set-Cookie: SERVERID=; Max-Age=0; Path=/app; Domain=example.com\r\n";
    assert_eq!(line(&adopt).as_deref(), Some(expected));
    assert_eq!(line(&Adopt { delete: false, ..adopt }), None);
}
