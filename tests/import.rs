//! `steadfast import`: configurations of others become ours, what doesn't is told line by line, and nobody is logged out.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{
    Folder, Instance, Outcome, Setup,
    http::get,
    old::{self, Old},
    peers::Nginx,
    pki::Pki,
    steadfast,
};

/// Where certificates are in the corpus.
const CERTIFICATES: &str = "/etc/ssl/private";
/// What nginx loads where its streams are not built in.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn corpus(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(kind)
}

/// The names of the files that end so, at least as many as asked for.
#[track_caller]
fn files(kind: &str, ending: &str, least: usize) -> Vec<String> {
    let names = fs::read_dir(corpus(kind)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    files.sort();
    assert!(files.len() >= least, "{files:?}");
    files
}

fn import(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = steadfast(["import"].iter().chain(arguments));
    command.current_dir(folder).env("LANG", "C");
    Outcome::of(command)
}

/// That `steadfast check` finds nothing in it.
#[track_caller]
fn checks(text: &str) {
    let folder = Folder::new();
    let file = folder.write("steadfast.toml", text);
    let outcome = Outcome::of(steadfast(["check", "--file-only", "--config", file.to_str().unwrap()]));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{text}");
}

/// What is made of a file of the corpus is what is kept beside it. `STEADFAST_BLESS=1 cargo test --test import` writes what
/// is made now; read it before it is kept.
#[track_caller]
fn is_as_kept(kind: &str, file: &str) {
    let Outcome { code, stdout, stderr } = import(&corpus(kind), &[file]);
    assert_eq!(code, Some(0), "{file}: {stderr}");
    checks(&stdout);
    let path = corpus(kind).join(file);
    for (ending, made) in [("toml", &stdout), ("stderr", &stderr)] {
        let kept = path.with_extension(ending);
        if env::var_os("STEADFAST_BLESS").is_some() {
            fs::write(&kept, made).unwrap();
        }
        assert_eq!(*made, fs::read_to_string(&kept).unwrap_or_default(), "{}", kept.display());
    }
}

/// A configuration of the corpus with certificates that are there.
fn with_certificates(pki: &Pki, kind: &str, file: &str) -> PathBuf {
    let text = fs::read_to_string(corpus(kind).join(file)).unwrap();
    let issued = pki.issue("any", "DNS:example.com");
    let all = [fs::read(&issued.chain).unwrap(), fs::read(&issued.key).unwrap()].concat();
    let words = text.split([' ', '\n', ';', '/']).filter(|word| word.ends_with(".pem") || word.ends_with(".key"));
    for name in words.collect::<BTreeSet<_>>() {
        fs::write(pki.folder.path(name), &all).unwrap();
    }
    let folder = pki.folder.root().to_str().unwrap();
    let real =
        [CERTIFICATES, "/var/cache/nginx", "/var/log/nginx", "/run/nginx.pid"].iter().fold(text, |text, path| {
            let own = if path.ends_with("pid") { format!("{folder}/pid") } else { folder.to_owned() };
            text.replace(path, &own)
        });
    pki.folder.write(file, &real)
}

#[test]
fn configurations_of_haproxy_are_real_and_become_ours() {
    let pki = Pki::new();
    for file in files("haproxy", ".cfg", 6) {
        let real = with_certificates(&pki, "haproxy", &file);
        let mut command = Command::new("haproxy");
        command.args(["-c", "-f"]).arg(real);
        let outcome = Outcome::of(command);
        assert_eq!(outcome.code, Some(0), "{file}: {}", outcome.stderr);
        is_as_kept("haproxy", &file);
    }
}

#[test]
fn configurations_of_nginx_are_real_and_become_ours() {
    let pki = Pki::new();
    let parts = pki.folder.path("parts");
    fs::create_dir(&parts).unwrap();
    for part in ["upstreams.conf", "headers"] {
        fs::copy(corpus("nginx/parts").join(part), parts.join(part)).unwrap();
    }
    for file in files("nginx", ".conf", 6) {
        let real = with_certificates(&pki, "nginx", &file);
        let mut command = Command::new("nginx");
        command.args(["-t", "-q", "-p"]).arg(pki.folder.root()).arg("-c").arg(&real);
        if fs::read_to_string(&real).unwrap().contains("stream {") && Path::new(STREAM).exists() {
            command.arg("-g").arg(format!("load_module {STREAM};"));
        }
        let outcome = Outcome::of(command);
        assert_eq!(outcome.code, Some(0), "{file}: {}", outcome.stderr);
        is_as_kept("nginx", &file);
    }
}

#[test]
fn what_the_package_of_nginx_comes_with_is_read() {
    let outcome = import(Path::new("/"), &["etc/nginx/nginx.conf", "--verbose"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    checks(&outcome.stdout);
    assert!(outcome.stderr.contains("etc/nginx/mime.types:"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("etc/nginx/sites-enabled/default:"), "{}", outcome.stderr);
}

#[test]
fn what_the_package_of_haproxy_comes_with_is_read() {
    let outcome = import(Path::new("/"), &["etc/haproxy/haproxy.cfg", "--verbose"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    checks(&outcome.stdout);
    assert!(outcome.stderr.contains(": daemon: not needed: "), "{}", outcome.stderr);
}

/// Steadfast from what `import` makes of the old balancer's own file, at ports of its own.
#[track_caller]
fn taken_over(old: &Old) -> Instance {
    let file = old.configuration();
    let outcome = import(Path::new("/"), &[file.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let text = old.addresses.iter().fold(outcome.stdout, |text, address| text.replace(address, "127.0.0.1:0"));
    Setup::new(&text).start()
}

/// Clients who began at the old balancer find the same backends here.
#[track_caller]
fn nobody_is_logged_out(old: &str, new: &str, cookie: &str) {
    let mut homes = BTreeSet::new();
    for client in 0..30 {
        let first = get(old, "/", &[]);
        let theirs = first.cookie(cookie).expect("the old balancer sets its cookie");
        let here = get(new, "/", &[("Cookie", &theirs)]);
        assert_eq!((here.status, here.text()), (200, first.text()), "client {client} with {theirs}");
        let ours = here.cookie("lb-affinity").expect("it goes on by ours");
        assert_eq!(get(new, "/", &[("Cookie", &ours)]).text(), first.text(), "client {client} with {ours}");
        homes.insert(first.text());
    }
    assert_eq!(homes.len(), 3, "all of them served before");
}

#[test]
fn who_was_bound_by_a_real_haproxy_stays_where_he_is() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let server = |(at, (name, address)): (usize, &(String, String)), more: &str| {
        format!("  server app-{name} {address} check {}\n", more.replace('N', &at.to_string()))
    };
    let servers = |more: &str| -> String { nginx.backends.iter().enumerate().map(|each| server(each, more)).collect() };
    let old = old::start(3, |_, addresses| {
        let [one, two, three] = addresses else { unreachable!("as many as asked for") };
        let text = format!(
            "defaults\n  mode http\n  option httpchk GET /\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend www\n  bind {one}\n  default_backend shop\n\
             backend shop\n  cookie SERVERID insert indirect nocache\n{}\
             listen dated\n  bind {two}\n  cookie SERVERID insert indirect maxidle 30m maxlife 8h\n{}\
             listen dynamic\n  bind {three}\n  dynamic-cookie-key some-key\n  cookie DYN insert indirect dynamic\n{}",
            servers("cookie value-N"),
            servers("cookie sN"),
            servers(""),
        );
        (text, vec!["haproxy".into(), "-db".into(), "-f".into()])
    });
    let new = taken_over(&old);
    for ((old, listener), cookie) in
        old.addresses.iter().zip(["www", "dated", "dynamic"]).zip(["SERVERID", "SERVERID", "DYN"])
    {
        nobody_is_logged_out(old, &new.listener(listener), cookie);
    }
}

/// Debian's nginx has no `sticky`: one with maps hands out what it would, and the import is of what it stands for.
#[test]
fn who_was_bound_by_nginx_stays_where_he_is() {
    let nginx = Nginx::start(&["a", "b", "c"]);
    let old = old::nginx_sticky(&nginx.backends);
    let servers: String = nginx.backends.iter().map(|(_, address)| format!("server {address};\n")).collect();
    let folder = Folder::new();
    let text = format!(
        "events {{}}\nhttp {{\nupstream shop {{\n{servers}sticky cookie route expires=1h path=/;\n}}\n\
         server {{ listen 127.0.0.1:8080; location / {{ proxy_pass http://shop; }} }}\n}}\n"
    );
    let file = folder.write("nginx.conf", &text);
    let outcome = import(folder.root(), &[file.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let new = Setup::new(&outcome.stdout.replace("127.0.0.1:8080", "127.0.0.1:0")).start();
    nobody_is_logged_out(&old.addresses[0], &new.listener("http-8080"), "route");
}

#[test]
fn standard_input_folders_and_files_that_are_there() {
    let folder = Folder::new();
    folder.write("1.cfg", "defaults\nmode http\n");
    folder.write("2.cfg", "listen web\nbind 127.0.0.1:80\nserver a 10.0.0.1:80\nbogus\n");
    folder.write("notes.txt", "not read");
    let outcome = import(folder.root(), &[".", "--output", "made.toml"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{}", outcome.stderr);
    let told = "./2.cfg:4: bogus: not taken: nothing is known of it here\ntaken 5, not needed 0, not taken 1 line\n";
    assert_eq!(outcome.stderr, told);
    let made = fs::read_to_string(folder.path("made.toml")).unwrap();
    checks(&made);
    let outcome = import(folder.root(), &["1.cfg", "2.cfg", "--strict"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    checks(&outcome.stdout);
    let outcome = import(folder.root(), &["1.cfg", "--output", "made.toml"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("made.toml is there already: name another file, or remove it\n"));
    assert_eq!(fs::read_to_string(folder.path("made.toml")).unwrap(), made);

    let mut command = steadfast(["import", "-", "--from", "haproxy"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"backend b\nserver a 10.0.0.1:80\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("# standard input:2\n"));
}

#[test]
fn what_is_no_configuration_is_refused() {
    let folder = Folder::new();
    for (text, told) in [
        ("hello\n", "old: whose configuration is it? say so with --from\n"),
        ("http {\n\n", "old:1: this block has no end\n"),
        ("backend b\n\nserver 'a\n", "old:3: a quote that begins with ' has no end\n"),
    ] {
        folder.write("old", text);
        let outcome = import(folder.root(), &["old"]);
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(64), "", told));
    }
    let outcome = import(folder.root(), &["nowhere.cfg"]);
    assert_eq!(outcome.code, Some(64));
    assert!(outcome.stderr.starts_with("nowhere.cfg: can't be read: "), "{}", outcome.stderr);
}
