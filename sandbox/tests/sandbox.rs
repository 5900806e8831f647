//! What a process can and can't do once it has entered the sandbox, tried in processes of their own: there is no way back out.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use sandbox::Role;
use std::{
    env,
    ffi::CString,
    fs, io,
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    ptr, thread,
};

const FOLDER: &str = "STEADFAST_SANDBOX_FOLDER";

/// Runs an ignored test of this file in a process of its own; `folder` is its own too.
#[track_caller]
fn apart(test: &str) {
    let folder = env::temp_dir().join(format!("steadfast-sandbox-{test}-{}", std::process::id()));
    fs::create_dir_all(folder.join("own")).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads", "1"]).env(FOLDER, &folder);
    let told = command.output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let [out, error] = [&told.stdout, &told.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(told.status.success() && out.contains("1 passed"), "{out}{error}");
}

#[test]
fn the_data_plane_does_what_it_has_to_and_nothing_else() {
    apart("dataplane");
}

#[test]
fn the_admin_process_does_what_it_has_to_and_nothing_else() {
    apart("admin");
}

#[test]
fn an_abort_still_ends_the_process_and_leaves_no_core() {
    use std::os::unix::process::ExitStatusExt;
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "aborts", "--nocapture"]).env(FOLDER, env::temp_dir());
    let status = command.output().unwrap().status;
    assert_eq!((status.signal(), status.core_dumped()), (Some(libc::SIGABRT), false));
}

#[test]
#[ignore = "is run by a test, in a process of its own"]
fn aborts() {
    enter(Role::Admin, &folder());
    std::process::abort();
}

#[test]
#[ignore = "is run by a test, in a process of its own"]
fn dataplane() {
    keeps_to_its_own(Role::Dataplane);
    assert_ne!(errno(libc::SYS_io_uring_setup, [0, 0, 0, 0]), libc::ENOSYS);
    assert_eq!(socket(libc::AF_NETLINK, libc::NETLINK_ROUTE), libc::ENOSYS);
}

#[test]
#[ignore = "is run by a test, in a process of its own"]
fn admin() {
    keeps_to_its_own(Role::Admin);
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        assert_eq!(errno(call, [0, 0, 0, 0]), libc::ENOSYS, "{call}");
    }
    assert_eq!(socket(libc::AF_NETLINK, libc::NETLINK_ROUTE), 0);
    assert_eq!(socket(libc::AF_NETLINK, libc::NETLINK_AUDIT), libc::ENOSYS);
    assert!(("localhost", 80).to_socket_addrs().unwrap().next().is_some());
}

fn folder() -> PathBuf {
    env::var_os(FOLDER).expect("it is run by a test").into()
}

#[track_caller]
fn enter(role: Role, folder: &Path) {
    let (holds, missing) = sandbox::enter(role, &[folder.join("own")]);
    assert!(missing.is_empty(), "{missing:?}");
    assert!(holds.no_new_privileges && holds.seccomp && holds.landlock > 0, "{holds:?}");
}

fn keeps_to_its_own(role: Role) {
    let folder = folder();
    fs::write(folder.join("read"), "text").unwrap();
    fs::write(folder.join("own/there"), "text").unwrap();
    let known: Vec<_> = HARMFUL.iter().map(|(name, call)| (name, errno(*call, [-1, 0, 0, 0]))).collect();
    // Otherwise the same answer would tell nothing afterwards.
    let there = known.iter().filter(|(_, errno)| *errno != libc::ENOSYS).count();
    assert!(there > HARMFUL.len() / 2, "{known:?}");
    let (other, socket_before) = (std::os::unix::process::parent_id(), socket(libc::AF_PACKET, 0));
    assert_ne!(socket_before, libc::ENOSYS);
    enter(role, &folder);
    refuses_calls(other);
    keeps_files(&folder);
    keeps_to_sockets(&folder);
    // Threads have it too, whoever starts them.
    thread::spawn(|| assert_eq!(errno(libc::SYS_execve, [-1, 0, 0, 0]), libc::ENOSYS)).join().unwrap();
}

/// With arguments that would do nothing.
const HARMFUL: &[(&str, libc::c_long)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kill", libc::SYS_kill),
    ("clone3", libc::SYS_clone3),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("personality", libc::SYS_personality),
    ("memfd_create", libc::SYS_memfd_create),
    ("setuid", libc::SYS_setuid),
    ("setgid", libc::SYS_setgid),
    ("setresuid", libc::SYS_setresuid),
    ("setgroups", libc::SYS_setgroups),
    ("capset", libc::SYS_capset),
    ("settimeofday", libc::SYS_settimeofday),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
];

fn refuses_calls(other: u32) {
    for (name, call) in HARMFUL {
        assert_eq!(errno(*call, [-1, 0, 0, 0]), libc::ENOSYS, "{name}");
    }
    let other = other.into();
    assert_eq!(errno(libc::SYS_tgkill, [other, other, 0, 0]), libc::ENOSYS);
    assert_eq!(errno(libc::SYS_prlimit64, [other, 0, 0, 0]), libc::ENOSYS);
    assert_eq!(errno(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]), libc::ENOSYS);
    for namespace in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_NEWNS] {
        let flags = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | namespace;
        assert_eq!(errno(libc::SYS_clone, [flags.into(), 0, 0, 0]), libc::ENOSYS);
    }
    assert_eq!(errno(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]), libc::ENOSYS, "a process");
    let both = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: memory of its own, which nothing points to.
    let (mapped, protected) = unsafe {
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapped = libc::mmap(ptr::null_mut(), 4096, both, private, -1, 0);
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, private, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        (mapped, libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC))
    };
    assert_eq!((mapped, protected), (libc::MAP_FAILED, -1));
    for (family, protocol) in [(libc::AF_PACKET, 0), (libc::AF_VSOCK, 0), (libc::AF_ALG, 0)] {
        assert_eq!(socket(family, protocol), libc::ENOSYS);
    }
    assert!(Command::new("/bin/true").status().is_err());
}

fn keeps_files(folder: &Path) {
    let own = folder.join("own");
    assert_eq!(fs::read_to_string(folder.join("read")).unwrap(), "text");
    assert!(fs::read("/proc/self/status").is_ok() && fs::read_dir(folder).is_ok());
    for (new, old) in [("new", "old"), ("newer", "there")] {
        fs::write(own.join(new), "text").unwrap();
        fs::rename(own.join(new), own.join(old)).unwrap();
    }
    fs::hard_link(own.join("old"), own.join("linked")).unwrap();
    fs::remove_file(own.join("old")).unwrap();
    fs::File::options().append(true).open(own.join("there")).unwrap().sync_all().unwrap();
    let denied = |done: io::Result<()>| {
        let error = done.expect_err("Landlock keeps it from that").raw_os_error().unwrap();
        // Between folders that lie apart, as if they were on two disks.
        assert!(matches!(error, libc::EACCES | libc::EXDEV), "{error}");
    };
    denied(fs::write(folder.join("new"), "text"));
    denied(fs::write(folder.join("read"), "text"));
    denied(fs::remove_file(folder.join("read")));
    denied(fs::rename(folder.join("read"), own.join("moved")));
    denied(fs::hard_link(folder.join("read"), own.join("linked-too")));
    denied(fs::create_dir(folder.join("made")));
    denied(fs::OpenOptions::new().append(true).open("/proc/self/comm").map(drop));
}

fn keeps_to_sockets(folder: &Path) {
    let path = folder.join("own/socket");
    let listener = UnixListener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop((listener, UnixDatagram::pair().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()));
    assert_eq!(TcpListener::bind("127.0.0.1:0").unwrap_err().raw_os_error(), Some(libc::EACCES));
    // Nobody listens there, and that is what it is told.
    assert_eq!(TcpStream::connect("127.0.0.1:1").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert!(UnixListener::bind(folder.join("socket")).is_err());
    let name = CString::new("steadfast").unwrap();
    // SAFETY: the name lives until the call returns.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }, 0);
}

/// 0 where it is made.
fn socket(family: libc::c_int, protocol: libc::c_int) -> libc::c_int {
    // SAFETY: it takes numbers alone, and its descriptor is nobody else's.
    unsafe {
        match libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) {
            -1 => io::Error::last_os_error().raw_os_error().unwrap(),
            made => libc::close(made),
        }
    }
}

/// What a call fails with; 0 where it does not.
fn errno(call: libc::c_long, [a, b, c, d]: [i64; 4]) -> libc::c_int {
    // SAFETY: no argument is a pointer to anything, and no call with these changes anything of this process.
    let done = unsafe { libc::syscall(call, a, b, c, d) };
    if done == -1 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}
