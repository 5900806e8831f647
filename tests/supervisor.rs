//! `steadfast run`: sockets are bound, handed down and taken over; children are started, watched and ended.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::UnixDatagram,
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::Command,
};
use support::{Folder, Setup, Shop, eventually, http, steadfast};

fn shop_with(backend: &Shop) -> Setup {
    Setup::shop("health.check = \"off\"", [(&backend.name, &backend.address)])
}

/// A line of `/proc/PID/status`.
fn process_status(pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(":\t")?.to_owned()))
}

/// Whether it runs; one that has ended but was not waited for does not.
fn runs(pid: u32) -> bool {
    process_status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

#[test]
fn serves_until_told_to_end_and_leaves_nothing_behind() {
    let backend = Shop::start("a");
    let mut instance = shop_with(&backend).start();
    let (dataplane, admin) = (instance.pid("dataplane"), instance.pid("admin"));
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).text(), "a: hello, stranger\n");
    assert_eq!(http::get(&instance.admin(), "/healthz", &[]).status, 200);
    for pid in [dataplane, admin] {
        assert_eq!(process_status(pid, "PPid"), Some(instance.process.pid().to_string()));
        assert_eq!(process_status(pid, "NoNewPrivs").as_deref(), Some("1"));
    }
    instance.process.signal(Signal::TERM);
    assert_eq!(instance.process.ended().code(), Some(0));
    assert!(!runs(dataplane) && !runs(admin));
    let left: Vec<_> =
        fs::read_dir(instance.folder.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "lock" || name == "control.sock"), "{left:?}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listener =
        format!("[[listener]]\nname = \"web\"\nbind = \"{address}\"\npool = \"shop\"\n[[pool]]\nname = \"shop\"\n");
    let admin = format!("listen = \"{address}\"");
    for (setup, socket) in [(Setup::new(&listener), "listener web"), (Setup::new("").admin(&admin), "admin")] {
        let mut instance = setup.launch(|_| ());
        assert_eq!(instance.process.ended().code(), Some(1));
        let text = instance.process.stderr();
        let expected = format!("can't bind {socket} to {address}: Address already in use (os error 98)");
        assert!(text.lines().last() == Some(&expected), "{text}");
        assert!(!instance.folder.path("run/addresses.json").exists());
    }
}

#[test]
fn two_instances_on_one_port_are_refused_although_workers_share_it() {
    let backend = Shop::start("a");
    let first = shop_with(&backend).start();
    let address = first.listener("web");
    let listener =
        format!("[[listener]]\nname = \"web\"\nbind = \"{address}\"\npool = \"shop\"\n[[pool]]\nname = \"shop\"\n");
    let mut second = Setup::new(&listener).launch(|_| ());
    assert_eq!(second.process.ended().code(), Some(1));
    assert!(second.process.stderr().contains(&address));
}

#[test]
fn a_runtime_folder_belongs_to_one_instance() {
    let backend = Shop::start("a");
    let first = shop_with(&backend).start();
    let file = first.folder.path("steadfast.toml");
    let outcome = support::Outcome::of(steadfast(["run", "--config", file.to_str().unwrap()]));
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("another Steadfast runs with global.runtime_dir = "), "{}", outcome.stderr);
    assert_eq!(http::get(&first.listener("web"), "/", &[]).status, 200);
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let mut instance = Setup::new("[[listener]]\nname = \"web\"\n").launch(|_| ());
    assert_eq!(instance.process.ended().code(), Some(64));
    assert!(instance.process.stderr().contains("listener[0].bind: is missing"), "{}", instance.process.stderr());
    assert!(!instance.folder.path("run").exists());
}

#[test]
fn a_connection_waits_while_the_data_plane_is_replaced() {
    let backend = Shop::start("a");
    let instance = shop_with(&backend).start();
    let address = instance.listener("web");
    let old = instance.signal("dataplane", Signal::KILL);
    eventually("the data plane is gone", || (!runs(old)).then_some(()));
    // Nobody accepts at this moment: the connection waits in the queue of a socket that the supervisor holds.
    let mut connection = http::Connection::open(&address);
    assert_eq!(connection.request("GET", "/", &[], b"").text(), "a: hello, stranger\n");
    instance.replaced("dataplane", old);
    assert_eq!(instance.listener("web"), address);
    let log = instance.process.stderr();
    assert!(log.contains("data plane ended, signal: 9 (SIGKILL); it is started again in 100ms"), "{log}");
}

#[test]
fn traffic_goes_on_while_the_admin_process_is_replaced() {
    let backend = Shop::start("a");
    let instance = shop_with(&backend).start();
    let mut connection = http::Connection::open(&instance.listener("web"));
    let dataplane = instance.pid("dataplane");
    let old = instance.signal("admin", Signal::KILL);
    let mut answered = 0;
    eventually("the admin process is replaced and answers", || {
        assert_eq!(connection.request("GET", "/", &[], b"").status, 200);
        answered += 1;
        (instance.pid("admin") != old && http::get(&instance.admin(), "/healthz", &[]).status == 200).then_some(())
    });
    assert!(answered > 0);
    assert_eq!(instance.pid("dataplane"), dataplane);
}

/// A backend that takes requests and never answers.
fn silent_backend() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_drain_ends_at_its_timeout_and_a_second_signal_ends_it_at_once() {
    for (global, signals) in [("drain_timeout = \"200ms\"", 1), ("drain_timeout = \"10m\"", 2)] {
        let (backend, address) = silent_backend();
        let mut instance = Setup::shop("health.check = \"off\"", [("a", address)]).global(global).start();
        let (dataplane, admin) = (instance.pid("dataplane"), instance.pid("admin"));
        let mut connection = http::Connection::open(&instance.listener("web"));
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let _exchange = backend.accept().unwrap();
        instance.process.signal(Signal::TERM);
        if signals == 2 {
            eventually("it drains", || instance.process.stderr().contains("draining").then_some(()));
            assert!(runs(dataplane) && runs(admin));
            instance.process.signal(Signal::TERM);
        }
        let code = instance.process.ended().code();
        assert_eq!(code, Some(signals - 1), "{}", instance.process.stderr());
        assert!(!runs(dataplane) && !runs(admin));
    }
}

#[test]
fn who_comes_while_it_drains_is_refused_and_does_not_wait() {
    let (backend, address) = silent_backend();
    let instance = Setup::shop("health.check = \"off\"", [("a", address)]).global("drain_timeout = \"10m\"").start();
    let web = instance.listener("web");
    let mut connection = http::Connection::open(&web);
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _exchange = backend.accept().unwrap();
    instance.process.signal(Signal::TERM);
    eventually("nobody listens any more", || std::net::TcpStream::connect(&web).is_err().then_some(()));
    assert!(runs(instance.process.pid()));
}

#[test]
fn children_end_with_a_supervisor_that_is_killed() {
    let backend = Shop::start("a");
    let mut instance = shop_with(&backend).start();
    let children = [instance.pid("dataplane"), instance.pid("admin")];
    instance.process.signal(Signal::KILL);
    instance.process.ended();
    for pid in children {
        eventually("the child has ended", || (!runs(pid)).then_some(()));
    }
    // What it left behind is in nobody's way.
    instance.start_again();
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200);
}

#[test]
fn a_child_that_can_not_start_ends_all_with_its_own_code_and_reason() {
    let setup = Setup::new("");
    fs::create_dir_all(setup.folder().path("state/admin.redb")).unwrap();
    let mut instance = setup.launch(|_| ());
    assert_eq!(instance.process.ended().code(), Some(1));
    let text = instance.process.stderr();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("the admin process can't start, exit status: 1: "), "{text}");
    assert!(last.contains("admin.redb"), "{text}");
}

/// Lets the command, and all that it starts, ask for io_uring in vain, as a container profile does.
fn forbid_io_uring(command: &mut Command) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The number of the system call stands first in `seccomp_data`.
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: only system calls between fork and exec; the filter lives in the closure and is copied by the kernel.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            rustix::thread::set_no_new_privs(true)?;
            match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

#[test]
fn a_kernel_without_io_uring_is_told_with_what_it_needs() {
    let mut instance = Setup::new("").launch(forbid_io_uring);
    assert_eq!(instance.process.ended().code(), Some(69), "{}", instance.process.stderr());
    let text = instance.process.stderr();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("the data plane can't start, exit status: 69: io_uring can't be used: "), "{text}");
    assert!(last.contains("kernel.io_uring_disabled"), "{text}");
}

/// Has the command find these sockets as systemd hands them over. `LISTEN_PID` can't be known here, and is left out.
fn hand_over(command: &mut Command, sockets: &[(&str, &TcpListener)]) {
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let fds: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
    // SAFETY: only system calls between fork and exec. The sources are moved out of the way of the targets first.
    unsafe {
        command.pre_exec(move || {
            for (at, fd) in (100..).zip(&fds) {
                libc::dup2(*fd, at);
            }
            for at in 0..fds.len() as i32 {
                libc::dup2(100 + at, 3 + at);
            }
            Ok(())
        });
    }
}

#[test]
fn sockets_of_systemd_are_taken_by_name_and_the_others_bound() {
    let backend = Shop::start("a");
    let (web, admin) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [&web, &admin].map(|socket| socket.local_addr().unwrap().to_string());
    let more = "[[listener]]\nname = \"more\"\nbind = \"127.0.0.1:0\"\npool = \"more\"\n[[pool]]\nname = \"more\"\n";
    let rest = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:1\"\npool = \"shop\"\n{more}[[pool]]\nname = \"shop\"\nhealth.check = \"off\"\nbackend = [{{ name = \"a\", address = \"{}\" }}]\n",
        backend.address
    );
    let instance = Setup::new(&rest).start_with(|command| hand_over(command, &[("admin", &admin), ("web", &web)]));
    drop((web, admin));
    assert_eq!([instance.listener("web"), instance.admin()], addresses);
    // Both workers accept from the one socket.
    for _ in 0..20 {
        assert_eq!(http::get(&addresses[0], "/", &[]).text(), "a: hello, stranger\n");
    }
    assert_eq!(http::get(&addresses[1], "/healthz", &[]).status, 200);
    assert_eq!(http::get(&instance.listener("more"), "/", &[]).status, 503);
}

#[test]
fn a_socket_that_nothing_listens_on_is_named_and_one_for_another_process_left_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut instance = Setup::new("").launch(|command| hand_over(command, &[("wbe", &socket)]));
    assert_eq!(instance.process.ended().code(), Some(1));
    assert!(
        instance.process.stderr().contains("a socket named `wbe` was handed over"),
        "{}",
        instance.process.stderr()
    );
    Setup::new("").start_with(|command| {
        hand_over(command, &[("wbe", &socket)]);
        command.env("LISTEN_PID", "1");
    });
}

/// Where systemd hears what a service says of itself.
struct Ear {
    folder: Folder,
    socket: UnixDatagram,
}

impl Ear {
    fn open() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        Self { folder, socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.path("notify")
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn systemd_is_told_how_it_goes() {
    let ear = Ear::open();
    let mut instance = Setup::new("").start_with(|command| {
        command.env("NOTIFY_SOCKET", ear.path());
    });
    assert_eq!(ear.hear(), "READY=1");
    instance.process.signal(Signal::HUP);
    assert!(ear.hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(ear.hear(), "READY=1");
    instance.process.signal(Signal::TERM);
    assert_eq!(ear.hear(), "STOPPING=1");
    assert_eq!(instance.process.ended().code(), Some(0));
}

#[test]
fn systemd_is_given_signs_of_life_where_it_waits_for_them() {
    let [ours, anothers] = [Ear::open(), Ear::open()];
    let start = |ear: &Ear, whose: &[(&str, &str)]| {
        Setup::new("").start_with(|command| {
            command.env("NOTIFY_SOCKET", ear.path()).env("WATCHDOG_USEC", "100000").envs(whose.iter().copied());
        })
    };
    let _instances = [start(&ours, &[]), start(&anothers, &[("WATCHDOG_PID", "1")])];
    let others: Vec<_> = (0..20).map(|_| ours.hear()).filter(|word| word != "WATCHDOG=1").collect();
    assert_eq!(others, ["READY=1"]);
    assert_eq!(anothers.hear(), "READY=1", "and no sign before it, for another process is waited for");
}

/// It was 0644, whatever the mode of the configuration, which can hold the keys of other balancers' cookies.
#[test]
fn the_copy_of_the_configuration_is_read_by_nobody_else() {
    let instance = Setup::new("").start();
    let copy = fs::metadata(instance.folder.path("run/config.toml")).unwrap();
    assert_eq!(copy.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_admin_socket_can_be_a_private_file() {
    let setup = Setup::new("");
    let path = setup.folder().path("admin.sock");
    let instance = setup.admin(&format!("listen = \"unix:{}\"", path.display())).start();
    assert_eq!(instance.admin(), format!("unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(instance.api("GET", "/v1/pools", None), (200, Value::Array(Vec::new())));
}

#[test]
fn logs_are_json_where_asked_with_the_role_in_each_line() {
    let mut instance = Setup::new("").start_with(|command| {
        command.args(["--log-format", "json"]);
    });
    instance.process.signal(Signal::TERM);
    instance.process.ended();
    let text = instance.process.stderr();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for role in ["supervisor", "dataplane", "admin"] {
        assert!(lines.iter().any(|line| line["role"] == role && line["time"].is_string()), "{role}: {text}");
    }
    let listening = lines.iter().find(|line| line["message"] == "listening").unwrap();
    assert_eq!((listening["name"].as_str(), listening["level"].as_str()), (Some("admin"), Some("INFO")));
}

#[test]
fn as_root_the_children_are_given_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can do this");
        return;
    }
    let backend = Shop::start("a");
    let setup = shop_with(&backend).global("workers = 1\nuser = \"nobody\"");
    fs::set_permissions(setup.folder().root(), fs::Permissions::from_mode(0o755)).unwrap();
    let instance = setup.start();
    let copy = fs::metadata(instance.folder.path("run/config.toml")).unwrap();
    assert_eq!((copy.permissions().mode() & 0o777, copy.uid()), (0o600, 65_534));
    for role in ["dataplane", "admin"] {
        let pid = instance.pid(role);
        assert_eq!(process_status(pid, "Uid").as_deref(), Some("65534\t65534\t65534\t65534"));
        assert_eq!(process_status(pid, "Groups").unwrap().trim(), "");
        assert_eq!(process_status(pid, "CapEff").as_deref(), Some("0000000000000000"));
    }
    assert_eq!(http::get(&instance.listener("web"), "/", &[]).status, 200);
    let old = instance.signal("admin", Signal::KILL);
    instance.replaced("admin", old);
    eventually("the admin process answers again", || {
        (http::get(&instance.admin(), "/healthz", &[]).status == 200).then_some(())
    });
}

#[test]
fn a_user_is_refused_where_it_can_not_be_had() {
    let mut instance = Setup::new("").global("user = \"no-such-user\"").launch(|_| ());
    assert_eq!(instance.process.ended().code(), Some(64));
    assert!(instance.process.stderr().contains("global.user: there is no user `no-such-user`"));
    if rustix::process::geteuid().is_root() {
        return;
    }
    let mut instance = Setup::new("").global("user = \"root\"").launch(|_| ());
    assert_eq!(instance.process.ended().code(), Some(64));
    assert!(instance.process.stderr().contains("only root can run the children as `root`"));
}
