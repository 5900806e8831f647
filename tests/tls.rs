//! TLS at listeners, with clients that this project did not write: OpenSSL, curl, Python.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};
use support::{
    Folder, Instance, Outcome, Scripted, Setup,
    backend::read_head,
    eventually,
    http::get,
    peers::{Nginx, python, start_python},
    pki::{Pki, curl, setup},
};

/// What a client is shown that asks for this name: the names of the certificate, the version, the protocol.
fn shown(instance: &Instance, ca: &Path, name: &str, more: &str) -> String {
    let program = format!(
        "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
context.check_hostname = False
context.set_alpn_protocols(['spdy/3', 'http/1.1'])
{more}
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as tcp:
    with context.wrap_socket(tcp, server_hostname=sys.argv[3] or None) as tls:
        names = [name for _, name in tls.getpeercert()['subjectAltName']]
        print(','.join(names), tls.version(), tls.selected_alpn_protocol())
"
    );
    let outcome = python(&program, &[&instance.port("web"), ca.to_str().unwrap(), name]);
    if outcome.code == Some(0) { outcome.stdout.trim().to_owned() } else { outcome.stderr }
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let default = pki.issue("default", "DNS:default.test,IP:127.0.0.1");
    let shop = pki.issue("shop", "DNS:shop.test,DNS:Www.Shop.Test");
    let wild = pki.issue_as("wild", "DNS:*.wild.test", "rsa", 30);
    let instance = setup("", &[&default, &shop, &wild], "", nginx.backends.clone()).start();
    for (asked, named) in [
        ("shop.test", "shop.test,Www.Shop.Test"),
        ("www.shop.test", "shop.test,Www.Shop.Test"),
        ("x.wild.test", "*.wild.test"),
        ("a.b.wild.test", "default.test,127.0.0.1"),
        ("wild.test", "default.test,127.0.0.1"),
        ("other.test", "default.test,127.0.0.1"),
        ("", "default.test,127.0.0.1"),
    ] {
        assert_eq!(shown(&instance, &pki.ca(), asked, ""), format!("{named} TLSv1.3 http/1.1"), "{asked}");
    }
    for name in ["shop.test", "x.wild.test"] {
        let outcome = curl(&instance.listener("web"), name, "/", &pki.ca(), &[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "a"), "{}", outcome.stderr);
    }
    let told = eventually("the certificates are told", || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        Some(status["dataplanes"][0]["tls"]["web"]["certificates"].clone()).filter(serde_json::Value::is_array)
    });
    assert_eq!(told[1]["names"], serde_json::json!(["shop.test", "www.shop.test"]), "{told}");
    let expires =
        instance.metric("steadfast_certificate_expiry_seconds{listener=\"web\",names=\"shop.test,www.shop.test\"}");
    assert_eq!(told[1]["not_after"], expires);
}

#[test]
fn of_two_certificates_for_a_name_a_client_is_shown_the_one_it_can_verify() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let (ec, rsa) = (pki.issue("ec", "DNS:shop.test"), pki.issue_as("rsa", "DNS:shop.test", "rsa", 30));
    let instance = setup("", &[&ec, &rsa], "", nginx.backends.clone()).start();
    for (algorithms, subject) in [("ECDSA+SHA256:RSA-PSS+SHA256", "CN = ec"), ("RSA-PSS+SHA256", "CN = rsa")] {
        // With and without a name, in both versions.
        for name in ["shop.test", "other.test"] {
            for version in ["-tls1_2", "-tls1_3"] {
                let mut command = Command::new("openssl");
                command.args(["s_client", "-connect", &instance.listener("web"), "-servername", name]);
                command.args(["-sigalgs", algorithms, version]);
                command.stdin(std::process::Stdio::null());
                let outcome = Outcome::of(command);
                assert!(outcome.stdout.contains(subject), "{algorithms} {name} {version}: {}", outcome.stdout);
            }
        }
    }
}

#[test]
fn old_versions_are_not_spoken() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let version = |version: &str| {
        format!(
            "context.minimum_version = context.maximum_version = ssl.TLSVersion.{version}
context.set_ciphers('ALL:@SECLEVEL=0')"
        )
    };
    for (settings, versions) in [("", ["TLSv1_3", "TLSv1_2"].as_slice()), ("min_version = \"1.3\"", &["TLSv1_3"])] {
        let instance = setup(settings, &[&shop], "", nginx.backends.clone()).start();
        for each in ["TLSv1_3", "TLSv1_2", "TLSv1_1", "TLSv1"] {
            let told = shown(&instance, &pki.ca(), "shop.test", &version(each));
            let (spoken, name) = (versions.contains(&each), each.replace("TLSv1_", "TLSv1."));
            assert_eq!(told.contains(&format!("shop.test {name} http/1.1")), spoken, "{settings} {each}: {told}");
            assert!(spoken || told.contains(" alert "), "{told}");
        }
        instance.counts("tls_failed", 4 - versions.len() as u64);
    }
}

#[test]
fn clients_come_back_by_tickets_to_whatever_worker() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let program = "import socket, ssl, sys
def connect(context, session):
    tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
    tls = context.wrap_socket(tcp, server_hostname='shop.test', session=session)
    tls.sendall(b'GET / HTTP/1.1\\r\\nHost: shop.test\\r\\n\\r\\n')
    answer = b''
    while not answer.endswith(b'\\r\\n\\r\\na'):
        answer += tls.recv(4096)
    return tls
for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.minimum_version = context.maximum_version = version
    first = connect(context, None)
    assert not first.session_reused
    # All at once, so that no worker takes them all.
    later = [connect(context, first.session) for _ in range(24)]
    assert all(tls.session_reused for tls in later), [tls.session_reused for tls in later]
";
    let outcome = python(program, &[&instance.port("web"), pki.ca().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    instance.counts("tls_handshakes", 50);
    instance.counts("tls_resumed", 48);
}

#[test]
fn bodies_go_up_and_down_unchanged() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let content: Vec<u8> = (0..10usize << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    nginx.file("big", &content);
    let shop = pki.issue("shop", "DNS:shop.test");
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let folder = Folder::new();
    let (sent, got) = (folder.path("sent"), folder.path("got"));
    fs::write(&sent, &content).unwrap();
    let address = instance.listener("web");
    let got = got.to_str().unwrap();
    for version in ["1.2", "1.3"] {
        let outcome = curl(&address, "shop.test", "/files/big", &pki.ca(), &["--tls-max", version, "-o", got]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(fs::read(got).unwrap() == content);
        let name = format!("/upload/{version}");
        for more in [["-H", "X-A: b"], ["-H", "Transfer-Encoding: chunked"]] {
            let mut arguments = vec!["--tls-max", version, "-T", sent.to_str().unwrap()];
            arguments.extend(more);
            let outcome = curl(&address, "shop.test", &name, &pki.ca(), &arguments);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert!(fs::read(nginx.folder.path("files").join("upload").join(version)).unwrap() == content);
        }
    }
}

#[test]
fn the_server_has_the_say_which_cipher_is_used() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let instance = setup("", &[&pki.issue("shop", "DNS:shop.test")], "", nginx.backends.clone()).start();
    for (option, weak_first, used) in [
        ("-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
        (
            "-cipher",
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
            "TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
    ] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &instance.listener("web"), option, weak_first]);
        command.arg(if option == "-cipher" { "-tls1_2" } else { "-tls1_3" });
        command.stdin(std::process::Stdio::null());
        let outcome = Outcome::of(command);
        assert!(outcome.stdout.contains(used), "{used}: {}", outcome.stdout);
    }
}

#[test]
fn a_staple_is_shown_to_who_asks_for_it() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let staple = pki.ocsp(&shop);
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\n\
         tls.certificate = [{{ chain = {:?}, key = {:?}, ocsp = {staple:?} }}]\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        shop.chain, shop.key, nginx.backends[0].1
    );
    let instance = Setup::new(&rest).start();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &instance.listener("web"), "-status", version]);
        command.stdin(std::process::Stdio::null());
        let outcome = Outcome::of(command);
        assert!(outcome.stdout.contains("OCSP Response Status: successful"), "{version}: {}", outcome.stdout);
    }
}

#[test]
fn records_are_small_at_first_and_large_where_there_is_much() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    nginx.file("big", &[b'x'; 1 << 20]);
    let shop = pki.issue("shop", "DNS:shop.test");
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let program = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(came, goes, server_hostname='shop.test')
raw = b''
def take():
    global raw
    tcp.sendall(goes.read())
    piece = tcp.recv(65536)
    assert piece
    came.write(piece)
    return piece
while True:
    try:
        tls.do_handshake()
        break
    except ssl.SSLWantReadError:
        take()
tls.write(b'GET /files/big HTTP/1.1\\r\\nHost: shop.test\\r\\n\\r\\n')
while len(raw) < 1 << 20:
    raw += take()
sizes = []
while len(raw) >= 5:
    size = int.from_bytes(raw[3:5], 'big')
    sizes.append(size)
    raw = raw[5 + size:]
# Tickets come first, and are small as well.
assert all(size <= 1440 for size in sizes[:9]), sizes[:20]
assert sum(size > 16000 for size in sizes) > 50, sizes
";
    let outcome = python(program, &[&instance.port("web"), pki.ca().to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

/// Reads a connection to its end, and says how it ended.
const TO_THE_END: &str = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tcp = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
tls = context.wrap_socket(tcp, server_hostname='shop.test', suppress_ragged_eofs=False)
tls.sendall(sys.argv[3].encode())
got = b''
try:
    while piece := tls.recv(65536):
        got += piece
    end = 'announced'
except (ssl.SSLEOFError, ConnectionResetError) as error:
    end = 'broken off'
print(end, got.split(b'\\r\\n\\r\\n')[-1].decode())
";

#[test]
fn an_end_is_announced_unless_something_is_missing() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let request = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    let closing = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
    let old = "GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n";
    for (answer, request, end) in [
        // The connection is idle for too long.
        ("Content-Length: 2\r\n\r\nok", request, "announced ok"),
        ("Content-Length: 2\r\n\r\nok", closing, "announced ok"),
        ("\r\nall there is", request, "announced all there is"),
        // The backend goes before its time.
        ("Content-Length: 99\r\n\r\nhalf", request, "announced half"),
        ("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", old, "broken off half"),
    ] {
        let backend = Scripted::closing_after(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes());
        let instance = setup("", &[&shop], "[pool.health]\ncheck = \"off\"\n", [("a", backend.address())]).start();
        let outcome = python(TO_THE_END, &[&instance.port("web"), pki.ca().to_str().unwrap(), request]);
        assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), end), "{answer}: {}", outcome.stderr);
    }
}

#[test]
fn a_certificate_is_followed_and_a_bad_one_refused() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let renewed = pki.issue("renewed", "DNS:shop.test,DNS:www.shop.test");
    let expired = pki.issue_as("expired", "DNS:shop.test", "ec", -1);
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let shows = |names: &str| {
        let names = format!("{names} TLSv1.3 http/1.1");
        eventually("the certificate is shown", || {
            (shown(&instance, &pki.ca(), "shop.test", "") == names).then_some(())
        });
    };
    let problem = |part: &str| {
        eventually("the problem is told", || {
            let (_, status) = instance.api("GET", "/v1/status", None);
            status["problems"].to_string().contains(part).then_some(())
        });
    };
    let is_well = || {
        eventually("no problem is told", || {
            let (_, status) = instance.api("GET", "/v1/status", None);
            status["problems"].as_array().unwrap().is_empty().then_some(())
        });
    };
    shows("shop.test");
    let kept = pki.issue("kept", "DNS:kept.test");
    kept.replace_with(&shop);
    // A client that stays through all of it.
    let client = start_python(
        "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), server_hostname='shop.test')
print('connected', flush=True)
tls.sendall(b'POST / HTTP/1.1\\r\\nHost: shop.test\\r\\nContent-Length: 100000\\r\\n\\r\\n')
for _ in range(100000):
    tls.sendall(b'x')
print(tls.recv(4096).split(b'\\r\\n')[0].decode(), flush=True)
",
        &[&instance.port("web"), pki.ca().to_str().unwrap()],
    );
    eventually("it has connected", || client.stdout().contains("connected").then_some(()));
    shop.replace_with(&renewed);
    shows("shop.test,www.shop.test");
    is_well();
    fs::write(&shop.chain, "no certificate").unwrap();
    problem("there is no certificate in");
    shows("shop.test,www.shop.test");
    fs::copy(&kept.chain, &shop.chain).unwrap();
    problem("is not that of the certificate in");
    shop.replace_with(&expired);
    problem("a certificate has expired that was not there before");
    fs::remove_file(&shop.key).unwrap();
    problem("there is no file");
    shows("shop.test,www.shop.test");
    shop.replace_with(&kept);
    shows("shop.test");
    is_well();
    eventually("it is answered", || client.stdout().contains("HTTP/1.1 200 OK").then_some(()));
    let log = instance.process.stderr();
    assert_eq!(log.matches("certificates refused; serving on with the ones before").count(), 4, "{log}");
}

#[test]
fn a_reload_that_names_what_can_not_be_loaded_changes_nothing() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let (shop, next) = (pki.issue("shop", "DNS:shop.test"), pki.issue("next", "DNS:shop.test,DNS:next.test"));
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let file = instance.folder.path("steadfast.toml");
    let text = fs::read_to_string(&file).unwrap();
    let reload = |chain: &Path, key: &Path| {
        let text = text.replace(shop.chain.to_str().unwrap(), chain.to_str().unwrap());
        fs::write(&file, text.replace(shop.key.to_str().unwrap(), key.to_str().unwrap())).unwrap();
        instance.api("POST", "/v1/reload", None)
    };
    let (status, answer) = reload(&shop.chain, Path::new("/nowhere/key"));
    assert_eq!(
        (status, &answer["errors"][0]["pointer"]),
        (422, &"/listener/0/tls/certificate/0/key".into()),
        "{answer}"
    );
    let (status, _) = reload(&shop.chain, &next.key);
    assert_eq!(status, 422, "they are no pair");
    assert_eq!(shown(&instance, &pki.ca(), "shop.test", ""), "shop.test TLSv1.3 http/1.1");
    let (status, answer) = reload(&next.chain, &next.key);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(shown(&instance, &pki.ca(), "shop.test", ""), "shop.test,next.test TLSv1.3 http/1.1");
}

#[test]
fn a_data_plane_that_starts_without_certificates_serves_once_they_are_there() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let (shop, kept) = (pki.issue("shop", "DNS:shop.test"), pki.issue("kept", "DNS:shop.test"));
    kept.replace_with(&shop);
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    fs::remove_file(&shop.key).unwrap();
    let old = instance.signal("dataplane", Signal::KILL);
    instance.replaced("dataplane", old);
    eventually("the problem is told", || {
        let (_, status) = instance.api("GET", "/v1/status", None);
        status["problems"].to_string().contains("nobody is served there").then_some(())
    });
    let waiting = TcpStream::connect(instance.listener("web")).unwrap();
    shop.replace_with(&kept);
    eventually("it serves", || {
        let outcome = curl(&instance.listener("web"), "shop.test", "/", &pki.ca(), &[]);
        (outcome.stdout == "a").then_some(())
    });
    drop(waiting);
}

#[test]
fn who_does_not_speak_tls_is_told_or_closed_and_counted() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    let address = instance.listener("web");
    let response = get(&address, "/", &[]);
    assert_eq!((response.status, response.text().as_str()), (400, "400 This Port Expects HTTPS\n"));
    instance.counts("tls_plain", 1);
    let ends = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        got
    };
    // A record that is none, and one of a kind that does not belong there.
    for (number, bytes) in
        [&b"\x00\x01\x02\x03\x04\x05"[..], b"\x17\x03\x03\x00\x05hello", &[0x16; 64]].into_iter().enumerate()
    {
        let got = ends(bytes);
        assert!(got.is_empty() || got[0] == 0x15, "an alert or nothing: {got:?}");
        instance.counts("tls_failed", number as u64 + 1);
    }
    // Nothing, and half of a hello.
    for (number, bytes) in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"].into_iter().enumerate() {
        assert_eq!(ends(bytes), b"");
        instance.counts("tls_timeouts", number as u64 + 1);
    }
    assert_eq!(curl(&address, "shop.test", "/", &pki.ca(), &[]).stdout, "a");
}

#[test]
fn a_self_signed_listener_serves_whoever_trusts_anybody() {
    let nginx = Nginx::start(&["a"]);
    let (_, address) = &nginx.backends[0];
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"shop\"\ntls = \"self-signed\"\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
    );
    let instance = Setup::new(&rest).start();
    let pki = Pki::new();
    let ask = |more: &[&str]| curl(&instance.listener("web"), "localhost", "/", &pki.ca(), more);
    assert_eq!(ask(&["-k"]).stdout, "a");
    assert_eq!(ask(&[]).code, Some(60), "nobody has a reason to trust it");
}

#[test]
fn keys_are_in_no_snapshot_log_or_answer() {
    let (nginx, pki) = (Nginx::start(&["a"]), Pki::new());
    let shop = pki.issue_as("shop", "DNS:shop.test", "rsa", 30);
    let instance = setup("", &[&shop], "", nginx.backends.clone()).start();
    assert_eq!(curl(&instance.listener("web"), "shop.test", "/", &pki.ca(), &[]).stdout, "a");
    let pem = fs::read_to_string(&shop.key).unwrap();
    let secret = pem.lines().nth(3).unwrap();
    assert!(secret.len() > 40);
    let mut looked = 0;
    for folder in ["state", "run"] {
        for entry in fs::read_dir(instance.folder.path(folder)).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(content) = fs::read(&path) {
                looked += 1;
                assert!(find(&content, secret.as_bytes()).is_none(), "{}", path.display());
            }
        }
    }
    assert!(looked >= 3, "{looked}");
    let (_, status) = instance.api_text("GET", "/v1/status");
    assert!(!status.contains(secret) && !instance.process.stderr().contains(secret));
}

fn find(content: &[u8], part: &[u8]) -> Option<usize> {
    content.windows(part.len()).position(|window| window == part)
}

#[test]
fn a_client_that_goes_ends_its_exchange() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let (gone, is_gone) = std::sync::mpsc::channel();
    let backend = Scripted::start(move |mut stream| {
        if read_head(&mut stream).is_some() {
            // It never answers, and sees the end of its connection.
            let _ = stream.read(&mut [0]);
            gone.send(()).unwrap();
        }
    });
    let instance = setup("", &[&shop], "[pool.health]\ncheck = \"off\"\n", [("a", backend.address())]).start();
    // It says so, or is gone without a word.
    for (number, farewell) in ["tls.setblocking(False); tls._sslobj.shutdown()", "pass"].into_iter().enumerate() {
        let program = format!(
            "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))), server_hostname='shop.test')
tls.sendall(b'GET / HTTP/1.1\\r\\nHost: shop.test\\r\\n\\r\\n')
try:
    {farewell}
except ssl.SSLWantReadError:
    pass
tls.close()
"
        );
        let outcome = python(&program, &[&instance.port("web"), pki.ca().to_str().unwrap()]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        is_gone.recv_timeout(support::PATIENCE).expect("it takes the client's end for that of the exchange");
        instance.counts("client_aborts", number as u64 + 1);
    }
}
