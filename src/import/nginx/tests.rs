use super::super::{
    draft::Draft,
    report::{Ledger, Source},
    tests::sources,
};
use super::*;
use control::spec::{AdoptFrom, AppCookieStyle, Balance, Mode, Pool, Protocol, Redirect, SameSite, Span};

fn import_of(text: &str) -> (Draft, String) {
    let mut ledger = Ledger::new(&sources(text));
    let draft = import(&mut ledger, &|name| Err(format!("there is no {name}"))).unwrap();
    (draft, ledger.report(true))
}

/// The pool of an upstream with these lines, and what was told.
fn pool(lines: &str) -> (Pool, String) {
    let server = "server { listen 80; location / { proxy_pass http://u; } }";
    let (mut draft, told) = import_of(&format!("upstream u {{\n{lines}\n}}\n{server}\n"));
    (draft.config.pools.remove(0), told)
}

#[test]
fn sticky_cookies_are_adopted() {
    let line = "sticky cookie srv expires=1h domain=a.test path=/x httponly secure samesite=strict;";
    let (made, told) = pool(&format!("server 10.0.0.1:80 route=one;\nserver 10.0.0.2:80;\n{line}"));
    let (affinity, adopt) = (&made.affinity, &made.affinity.adopt[0]);
    assert_eq!(
        (affinity.mode, adopt.from, adopt.cookie.as_str()),
        (Mode::Cookie, Some(AdoptFrom::Nginx), "srv"),
        "{told}"
    );
    assert_eq!(adopt.values, [("one".to_owned(), "one".to_owned())].into());
    assert_eq!((adopt.path.as_str(), adopt.domain.as_deref()), ("/x", Some("a.test")));
    assert_eq!((affinity.cookie.max_age, affinity.cookie.same_site), (Some(Span::from_secs(3_600)), SameSite::Strict));
    let names: Vec<_> = made.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["one", "10.0.0.2-80"]);
}

#[test]
fn what_else_sticks_is_an_affinity_or_told() {
    for (line, mode, style) in [
        ("ip_hash;", Mode::SourceIp, None),
        ("hash $remote_addr consistent;", Mode::SourceIp, None),
        ("hash $cookie_id;", Mode::AppCookie, Some(AppCookieStyle::Hash)),
        ("hash $arg_user;", Mode::Query, None),
        ("hash $http_x_user;", Mode::Header, None),
        ("hash $request_uri;", Mode::None, None),
        (
            "sticky learn create=$upstream_cookie_id lookup=$cookie_id zone=z:1m;",
            Mode::AppCookie,
            Some(AppCookieStyle::Follow),
        ),
        ("sticky route $cookie_JSESSIONID;", Mode::AppCookie, Some(AppCookieStyle::Suffix)),
        ("sticky;", Mode::Cookie, None),
    ] {
        let (made, told) = pool(&format!("server 10.0.0.1;\n{line}"));
        let found = made.affinity.app_cookie.map(|cookie| cookie.style);
        assert_eq!((made.affinity.mode, found), (mode, style), "{line}\n{told}");
    }
    for (line, balance) in
        [("least_conn;", Balance::LeastRequests), ("random;", Balance::Random), ("random two;", Balance::P2c)]
    {
        assert_eq!(pool(&format!("server 10.0.0.1;\n{line}")).0.balance, balance);
    }
}

#[test]
fn locations_are_routes_where_they_say_the_same() {
    let text = "upstream u { server 10.0.0.1; }\nserver {\nlisten 80;\nserver_name a.test;\nlocation / { proxy_pass http://u; }\n\
                location /cart { proxy_pass http://10.0.0.2:81; }\nlocation ~ x { proxy_pass http://u; }\n\
                location /y/ { proxy_pass http://u/z/; }\nlocation /w/ { proxy_pass http://10.0.0.3/w/; }\n}\n";
    let (draft, told) = import_of(text);
    let listener = &draft.config.listeners[0];
    assert_eq!((listener.bind.as_str(), listener.pool.as_deref()), ("0.0.0.0:80", Some("u")));
    let paths: Vec<_> = listener.routes.iter().filter_map(|route| route.path.as_deref()).collect();
    assert_eq!(paths, ["/w", "/cart"], "{told}");
    for part in ["`/cart` and `/cart/1`, and not `/cartx`", "nothing else: these requests", "`/y/` is made `/z/`"] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn redirects_and_certificates_make_two_listeners() {
    let (draft, told) = import_of(include_str!("../../../tests/import/nginx/tls.conf"));
    let [plain, _, tls, _] = &draft.config.listeners[..] else { panic!("{told}") };
    assert_eq!((plain.redirect, plain.pool.as_deref()), (Some(Redirect::Https), None));
    assert_eq!((tls.pool.as_deref(), tls.limits.body_bytes), (Some("app"), 20 << 20));
    assert_eq!(tls.tls.as_ref().and_then(control::spec::Tls::hsts), Some(63_072_000));
}

#[test]
fn a_server_with_both_redirects_in_clear_text_alone() {
    let (draft, told) = import_of(
        "server {\nlisten 80;\nlisten 443 ssl;\nserver_name a.test;\nssl_certificate a.pem;\nssl_certificate_key a.key;\n\
         if ($scheme = http) { return 301 https://$host$request_uri; }\nlocation / { proxy_pass http://10.0.0.1; }\n}\n",
    );
    let [plain, tls] = &draft.config.listeners[..] else { panic!("{told}") };
    assert_eq!((plain.redirect, plain.pool.as_deref()), (Some(Redirect::Https), None), "{told}");
    assert_eq!((tls.redirect, tls.pool.as_deref()), (None, Some("10.0.0.1")), "{told}");
}

#[test]
fn names_in_tls_lead_plain_tcp() {
    let (draft, told) = import_of(include_str!("../../../tests/import/nginx/sni.conf"));
    let listener = &draft.config.listeners[0];
    assert_eq!((listener.protocol, listener.pool.as_deref()), (Protocol::Tcp, Some("web")));
    let hosts: Vec<_> = listener.routes.iter().filter_map(|route| route.host.as_deref()).collect();
    assert_eq!(hosts, ["*.tenants.example.com", "mail.example.com", "tenants.example.com"], "{told}");
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    for (text, line) in [
        ("http {\n", Some(1)),
        ("http {}\n}\n", Some(2)),
        ("http {\n;\n}", Some(2)),
        ("http {\n\n x 'y\n}", Some(3)),
        ("http { a }", Some(1)),
        ("a\nb", Some(1)),
        ("user x;", None),
        (&"a {".repeat(100), Some(1)),
    ] {
        let error = import(&mut Ledger::new(&sources(text)), &|_| Ok(Vec::new())).unwrap_err();
        assert_eq!(error.place.map(|place| place.line), line, "{text}: {error:?}");
    }
}

#[test]
fn what_is_included_is_read_and_what_is_not_there_told() {
    let mut ledger = Ledger::new(&sources("http {\ninclude a.conf;\ninclude b.conf;\n}\n"));
    let draft = import(&mut ledger, &|name| match name {
        "a.conf" => Ok(vec![Source {
            name: name.to_owned(),
            text: "server { listen 81; location / { proxy_pass http://10.0.0.1; } }\n".to_owned(),
        }]),
        _ => Err(format!("{name} can't be read")),
    });
    assert_eq!(draft.unwrap().config.listeners[0].bind, "0.0.0.0:81");
    assert_eq!(ledger.not_taken(), 1);
    let mut ledger = Ledger::new(&sources("include x;"));
    let endless = import(&mut ledger, &|_| Ok(sources("include x;")));
    assert!(endless.is_err(), "what includes itself");
}
