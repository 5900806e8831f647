//! Networks and mounts of a test's own, which go with its threads and processes.

use std::{process::Command, thread};

/// Which of them.
#[derive(Clone, Copy, Debug)]
pub enum Own {
    Network,
    Mounts,
}

/// Runs a test in namespaces of its own: what it starts, threads and processes, is in there too. Only root can make them; for
/// others, it is told that the test is left out.
#[track_caller]
pub fn apart(own: Own, body: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can do this");
        return;
    }
    let (flag, first): (_, &[&str]) = match own {
        Own::Network => (libc::CLONE_NEWNET, &["ip", "link", "set", "lo", "up"]),
        Own::Mounts => (libc::CLONE_NEWNS, &["mount", "--make-rprivate", "/"]),
    };
    let inside = move || {
        // SAFETY: it changes which network or mounts this thread sees, and touches no memory.
        let made = unsafe { libc::unshare(flag) };
        assert_eq!(made, 0, "no namespace: {}", std::io::Error::last_os_error());
        run(first);
        body();
    };
    if let Err(panic) = thread::spawn(inside).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command that has to succeed.
#[track_caller]
pub fn run(words: &[&str]) {
    let outcome = super::Outcome::of({
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    });
    assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}");
}
