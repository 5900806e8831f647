//! HTTP over TLS: what backends and browsers are told, redirects, clients' certificates, sessions, WebSockets.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use std::{io::Write, net::TcpStream};
use support::{
    Recorder, Scripted, Setup, Shop,
    backend::read_head,
    eventually,
    http::get,
    peers::{Nginx, python, start_python},
    pki::{Issued, Pki, curl, setup},
};

#[test]
fn backends_are_told_of_tls_and_browsers_to_come_back_by_it() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let recorder = Recorder::start();
    let instance = setup("hsts = \"365d\"", &[&shop], "", [("a", recorder.address())]).start();
    let outcome = curl(&instance.listener("web"), "shop.test", "/", &pki.ca(), &["-i"]);
    let told = outcome.stdout.to_ascii_lowercase();
    assert!(told.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{told}");
    let seen = recorder.take();
    assert!(seen.contains("\r\nX-Forwarded-Proto: https\r\n"), "{seen}");

    let own =
        Scripted::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nstrict-transport-security: max-age=5\r\n\r\n");
    let instance = setup("hsts = \"365d\"", &[&shop], "", [("a", own.address())]).start();
    let outcome = curl(&instance.listener("web"), "shop.test", "/", &pki.ca(), &["-i"]);
    let lines = outcome.stdout.to_ascii_lowercase().matches("strict-transport-security").count();
    assert!(lines == 1 && outcome.stdout.contains("max-age=5"), "{}", outcome.stdout);
}

#[test]
fn a_listener_sends_to_https_all_but_what_its_routes_match() {
    let nginx = Nginx::start(&["a"]);
    let (_, address) = &nginx.backends[0];
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nredirect = \"https\"\n\
         [[listener.route]]\npath = \"/.well-known/acme-challenge\"\npool = \"shop\"\n\
         [[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\nredirect = \"https\"\nredirect_port = 8443\n\
         [[pool]]\nname = \"shop\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
    );
    let instance = Setup::new(&rest).start();
    let ask = |listener: &str, request: &str| {
        let mut stream = TcpStream::connect(instance.listener(listener)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream).unwrap();
        (head.split_once("\r\n").unwrap().0.to_owned(), head)
    };
    for (path, host, location) in [
        ("/x?a=b&c=%2f", "shop.test", "https://shop.test/x?a=b&c=%2f"),
        ("/", "shop.test:8080", "https://shop.test/"),
        ("/", "[::1]:80", "https://[::1]/"),
        ("//evil.test/", "shop.test", "https://shop.test//evil.test/"),
    ] {
        for method in ["GET", "POST", "HEAD"] {
            let (status, head) = ask("web", &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(status, "HTTP/1.1 308 Permanent Redirect", "{method}");
            assert!(head.contains(&format!("\r\nLocation: {location}\r\n")) && !head.contains("close"), "{head}");
        }
    }
    let response = get(&instance.listener("web"), "/.well-known/acme-challenge/x", &[]);
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
    let (_, head) = ask("other", "GET /x HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert!(head.contains("\r\nLocation: https://shop.test:8443/x\r\n"), "{head}");
    // One without a host can't be sent anywhere; what follows a body that nobody reads is no request.
    let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 400 "));
    let mut stream = TcpStream::connect(instance.listener("web")).unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        .unwrap();
    let head = read_head(&mut stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 308 ") && head.contains("\r\nConnection: close\r\n"), "{head}");
    instance.counts("redirected", 14);
}

/// What a client said of its certificate in a trailer went through, and some servers take trailers for fields of the head
/// (CVE-2025-12642 of lighttpd).
#[test]
fn nobody_tells_of_a_certificate_in_trailers() {
    let pki = Pki::new();
    let recorder = Recorder::start();
    let clients =
        format!("clients = {{ verify = \"optional\", ca = {:?}, subject_header = \"X-Client-Subject\" }}", pki.ca());
    let shop = pki.issue("shop", "DNS:shop.test");
    let pool = "[pool.health]\ncheck = \"off\"\n";
    let instance = setup(&clients, &[&shop], pool, [("a", recorder.address())]).start();
    let program = "import socket, ssl, sys
host, port = sys.argv[1].rsplit(':', 1)
context = ssl.create_default_context(cafile=sys.argv[2])
with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname='shop.test') as client:
    client.sendall(b'POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5\\r\\nhello\\r\\n0\\r\\n'
                   b'X-Client-Subject: root\\r\\nx_client_subject: root\\r\\nX-Sum: 1\\r\\n\\r\\n')
    print(client.recv(12))";
    let outcome = python(program, &[&instance.listener("web"), pki.ca().to_str().unwrap()]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("b'HTTP/1.1 200'\n", ""));
    let seen = recorder.take_up_to("\r\nX-Sum: 1\r\n\r\n");
    assert!(!seen.contains("root"), "{seen}");
}

#[test]
fn clients_show_certificates_and_backends_learn_whose() {
    let (pki, others) = (Pki::new(), Pki::new());
    let shop = pki.issue("shop", "DNS:shop.test");
    let (alice, mallory) = (pki.issue("alice", "DNS:alice.test"), others.issue("mallory", "DNS:mallory.test"));
    let as_client = |issued: &Issued| {
        let [chain, key] = [&issued.chain, &issued.key].map(|file| file.to_str().unwrap().to_owned());
        ["--cert".to_owned(), chain, "--key".to_owned(), key]
    };
    for verify in ["required", "optional"] {
        let recorder = Recorder::start();
        let clients = format!(
            "clients = {{ verify = \"{verify}\", ca = {:?}, subject_header = \"X-Client-Subject\" }}",
            pki.ca()
        );
        let instance =
            setup(&clients, &[&shop], "[pool.health]\ncheck = \"off\"\n", [("a", recorder.address())]).start();
        let address = instance.listener("web");
        let ask = |more: &[String]| {
            let spoof = ["-H", "x-client-subject: root", "-H", "X_Client_Subject: root", "--tls-max"];
            let mut outcomes = Vec::new();
            for version in ["1.2", "1.3"] {
                let arguments: Vec<_> =
                    spoof.into_iter().chain([version]).chain(more.iter().map(String::as_str)).collect();
                outcomes.push(curl(&address, "shop.test", "/", &pki.ca(), &arguments));
            }
            (outcomes, recorder.take())
        };
        let (outcomes, seen) = ask(&as_client(&alice));
        assert!(outcomes.iter().all(|outcome| outcome.stdout == "ok"), "{outcomes:?}");
        assert_eq!(seen.matches("\r\nX-Client-Subject: O=Example, CN=alice\r\n").count(), 2, "{seen}");
        assert!(!seen.contains("root"), "{seen}");
        let (outcomes, seen) = ask(&as_client(&mallory));
        assert!(outcomes.iter().all(|outcome| outcome.code != Some(0)) && seen.is_empty(), "{outcomes:?}");
        let (outcomes, seen) = ask(&[]);
        match verify {
            "required" => assert!(outcomes.iter().all(|each| each.code != Some(0)) && seen.is_empty(), "{outcomes:?}"),
            _ => {
                assert!(outcomes.iter().all(|outcome| outcome.stdout == "ok"), "{outcomes:?}");
                assert!(!seen.to_ascii_lowercase().contains("subject"), "{seen}");
            }
        }
    }
}

#[test]
fn sessions_hold_over_tls_through_drains_deaths_and_restarts() {
    let pki = Pki::new();
    let issued = pki.issue("shop", "DNS:shop.test");
    let shops: Vec<_> = ["a", "b", "c"].into_iter().map(Shop::start).collect();
    let backends: Vec<_> = shops.iter().map(|shop| (shop.name.clone(), shop.address.clone())).collect();
    let pool = "[pool.health]\ncheck = \"tcp\"\ninterval = \"100ms\"\nfall = 1\n";
    let instance = setup("", &[&issued], pool, backends).start();
    let jar = pki.folder.path("jar");
    let ask = || {
        let jar = jar.to_str().unwrap();
        let more = ["-f", "-b", jar, "-c", jar];
        let outcome = curl(&instance.listener("web"), "shop.test", "/", &pki.ca(), &more);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        outcome.stdout
    };
    let first = ask();
    let name = first.split(':').next().unwrap().to_owned();
    let stays = || (0..10).for_each(|_| assert_eq!(ask(), first));
    stays();
    let (status, _) =
        instance.api("POST", &format!("/v1/pools/shop/backends/{name}/drain"), Some(serde_json::json!({})));
    assert_eq!(status, 200);
    stays();
    for role in ["admin", "dataplane"] {
        let old = instance.signal(role, Signal::KILL);
        instance.replaced(role, old);
        stays();
    }
    let dead = shops.iter().find(|shop| shop.name == name).unwrap();
    dead.process.signal(Signal::KILL);
    let second = ask();
    assert!(!second.starts_with(&name), "{second}");
    (0..10).for_each(|_| assert_eq!(ask(), second));
}

#[test]
fn a_websocket_over_tls_is_a_tunnel_like_others() {
    let pki = Pki::new();
    let shop = pki.issue("shop", "DNS:shop.test");
    let backend = start_python(
        "import asyncio, websockets
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, '127.0.0.1', 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
",
        &[],
    );
    let backend_port: String =
        eventually("the backend says its port", || backend.stdout().lines().next().map(str::to_owned));
    let instance = setup("", &[&shop], "", [("a", format!("127.0.0.1:{backend_port}"))]).start();
    let client = "import asyncio, ssl, sys, websockets
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    url = f'wss://127.0.0.1:{sys.argv[1]}/'
    async with websockets.connect(url, ssl=context, server_hostname='shop.test', max_size=None) as socket:
        for size in [0, 1, 1399, 1400, 1401, 16384, 70000, 8 << 20]:
            message = bytes(n % 251 for n in range(min(size, 1 << 16))) * (size // (1 << 16) or 1)
            await socket.send(message)
            assert await socket.recv() == message
    print(socket.close_code)
asyncio.run(main())
";
    let outcome = python(client, &[&instance.port("web"), pki.ca().to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.stdout.trim()), (Some(0), "1000"), "{}", outcome.stderr);
    drop(backend);
}
