use super::*;
use proptest::prelude::*;

fn name(name: &str) -> CookieName {
    CookieName::new(name).unwrap()
}

fn found(header: &str) -> Vec<String> {
    name("lb-affinity").find(header.as_bytes()).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

fn left(header: &str) -> String {
    let mut out = b"Cookie: ".to_vec();
    let any = name("lb-affinity").without(header.as_bytes(), &mut out);
    let left = String::from_utf8(out.split_off(8)).unwrap();
    assert_eq!(any, !left.is_empty(), "{header:?}");
    left
}

/// A header's value, what is found in it, what is left without.
const CASES: &[(&str, &[&str], &str)] = &[
    ("", &[], ""),
    ("lb-affinity=v", &["v"], ""),
    ("a=1; lb-affinity=v; b=2", &["v"], "a=1; b=2"),
    ("lb-affinity=v; b=2", &["v"], "b=2"),
    ("a=1; lb-affinity=v", &["v"], "a=1"),
    ("a=1; b=2", &[], "a=1; b=2"),
    // Several of the name.
    ("lb-affinity=1; lb-affinity=2", &["1", "2"], ""),
    ("lb-affinity=1; a=x; lb-affinity=2; b=y; lb-affinity=3", &["1", "2", "3"], "a=x; b=y"),
    ("lb-affinity=1;lb-affinity=2;a=x", &["1", "2"], "a=x"),
    // Values: quoted, empty, with equals signs, odd octets.
    (r#"lb-affinity="v w""#, &["v w"], ""),
    (r#"a="1"; lb-affinity="v"; b="2""#, &["v"], r#"a="1"; b="2""#),
    (r#"lb-affinity="v"#, &[r#""v"#], ""),
    (r#"lb-affinity="; a=1"#, &[r#"""#], "a=1"),
    (r#"lb-affinity="""#, &[""], ""),
    (r#"lb-affinity="a;b""#, &[r#""a"#], r#"b""#),
    ("lb-affinity=", &[""], ""),
    ("lb-affinity=; a=1", &[""], "a=1"),
    ("lb-affinity=a=b==; c=d", &["a=b=="], "c=d"),
    ("lb-affinity=lb-affinity=v", &["lb-affinity=v"], ""),
    ("lb-affinity=a,b c", &["a,b c"], ""),
    ("lb-affinity=ü", &["ü"], ""),
    // Names that only look alike.
    ("lb-affinity2=x; xlb-affinity=y", &[], "lb-affinity2=x; xlb-affinity=y"),
    ("lb-affinity2=x; lb-affinity=v; xlb-affinity=y", &["v"], "lb-affinity2=x; xlb-affinity=y"),
    ("LB-Affinity=x", &[], "LB-Affinity=x"),
    ("lb-affinitylb-affinity=x", &[], "lb-affinitylb-affinity=x"),
    ("a=lb-affinity=v", &[], "a=lb-affinity=v"),
    ("a=b lb-affinity=v", &[], "a=b lb-affinity=v"),
    ("a lb-affinity=v", &[], "a lb-affinity=v"),
    ("lb-affinity a=v", &[], "lb-affinity a=v"),
    ("=lb-affinity", &[], "=lb-affinity"),
    // Without an equals sign it is no pair.
    ("lb-affinity", &[], "lb-affinity"),
    ("lb-affinity; lb-affinity=v; a", &["v"], "lb-affinity; a"),
    ("a; lb-affinity", &[], "a; lb-affinity"),
    // Space and stray separators.
    ("a=1;lb-affinity=v;b=2", &["v"], "a=1; b=2"),
    ("a=1 ;\t lb-affinity \t= v \t; b=2", &["v"], "a=1; b=2"),
    ("  lb-affinity=v  ", &["v"], ""),
    (";;lb-affinity=v;;", &["v"], ""),
    ("a=1;; lb-affinity=v;; ;b=2", &["v"], "a=1; b=2"),
    ("; ;", &[], ""),
    ("a=1;b=2;  c=3; lb-affinity=v", &["v"], "a=1;b=2;  c=3"),
    ("a=1\n; \nlb-affinity=v", &[], "a=1\n; \nlb-affinity=v"),
];

#[test]
fn cases() {
    for &(header, values, without) in CASES {
        assert_eq!(found(header), values, "{header:?}");
        assert_eq!(name("lb-affinity").is_in(header.as_bytes()), !values.is_empty(), "{header:?}");
        assert_eq!(left(header), without, "{header:?}");
    }
}

#[test]
fn eight_kibibytes() {
    let others: Vec<String> = (0..400).map(|i| format!("lb-affinity{i}=some-value-{i}")).collect();
    let others = others.join("; ");
    assert!(others.len() > 8192);
    assert_eq!(found(&others), [""; 0]);
    assert_eq!(left(&others), others);
    for header in [format!("lb-affinity=v; {others}"), format!("{others}; lb-affinity=v")] {
        assert_eq!(found(&header), ["v"]);
        assert_eq!(left(&header), others);
    }
    // Nothing in it that could be a pair, however much of the name there is.
    for noise in ["lb-affinity", "lb-affinity ", " lb-affinity", ";lb-affinity"] {
        assert_eq!(found(&noise.repeat(800)), [""; 0]);
    }
}

#[test]
fn names_and_values_for_the_configuration() {
    for good in ["lb-affinity", "a", "__Host-x", "!#$%&'*+-.^_`|~09azAZ"] {
        assert!(is_cookie_name(good.as_bytes()), "{good}");
        assert_eq!(name(good).as_bytes(), good.as_bytes());
    }
    for bad in ["", "a b", "a=b", "a;", "\"a\"", "a,b", "a\t", "ü", "a\n", "a/b", "a[0]", "(a)", "a\0"] {
        assert!(CookieName::new(bad).is_none(), "{bad}");
    }
    for good in ["", "abc", "a=b", "!#$%&'()*+-./:<=>?@[]^_`{|}~"] {
        assert!(is_cookie_value_octets(good.as_bytes()), "{good}");
    }
    for bad in ["a b", "\"a\"", "a;b", "a,b", "a\\b", "ü", "\n", "\x7f", "\t"] {
        assert!(!is_cookie_value_octets(bad.as_bytes()), "{bad}");
    }
}

/// The plain way to read a header: all pieces between semicolons that are not blank, with the name of those that are pairs.
fn pieces(header: &str) -> Vec<(Option<&str>, &str)> {
    let space = |c| c == ' ' || c == '\t';
    let pieces = header.split(';').map(|piece| piece.trim_matches(space)).filter(|piece| !piece.is_empty());
    pieces.map(|piece| (piece.split_once('=').map(|(name, _)| name.trim_matches(space)), piece)).collect()
}

fn headers() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("ab".to_owned()),
        3 => Just("=".to_owned()),
        3 => Just(";".to_owned()),
        1 => Just("; ".to_owned()),
        1 => "[ \t]{1,2}",
        2 => "[ab\"x]{1,3}",
    ];
    proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn as_the_plain_way(header in headers()) {
        let name = name("ab");
        let (own, others): (Vec<_>, Vec<_>) = pieces(&header).into_iter().partition(|(name, _)| *name == Some("ab"));
        prop_assert_eq!(name.find(header.as_bytes()).count(), own.len());

        let mut out = Vec::new();
        prop_assert_eq!(name.without(header.as_bytes(), &mut out), !others.is_empty());
        let out = String::from_utf8(out).unwrap();
        prop_assert!(!name.is_in(out.as_bytes()));
        prop_assert_eq!(pieces(&out), others);
    }

    #[test]
    fn any_bytes(header in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut out = Vec::new();
        name("a").without(&header, &mut out);
        prop_assert!(!name("a").is_in(&out) && out.len() <= header.len() + 2);
    }
}
