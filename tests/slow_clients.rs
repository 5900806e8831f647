//! Crowds of slow clients by `slowhttptest`, which is not ours, and connections that come and go: who is quick is served, and what
//! was taken is given back. `STEADFAST_SOAK=seconds` says how long the last test goes on.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use support::{
    Instance, Running, Scripted, Setup,
    burden::{Bystander, descriptors, soak},
    callers::{Callers, sum},
    eventually,
    http::get,
    peers::Nginx,
    resident, within,
};

fn shop(nginx: &Nginx) -> Instance {
    // The slow are let go within the test's time, and their connections are many more than one address may have by far.
    let listener = "timeouts = { head = \"2s\", body = \"2s\", idle = \"2s\" }";
    let reads = Scripted::start(|mut stream| {
        let mut piece = [0; 4096];
        while matches!(stream.read(&mut piece), Ok(1..)) {}
    });
    let more = format!(
        "[[pool]]\nname = \"reads\"\nhealth.check = \"off\"\n[[pool.backend]]\nname = \"a\"\naddress = \"{}\"\n",
        reads.address()
    );
    let listener = format!("{listener}\n[[listener.route]]\npath = \"/reads\"\npool = \"reads\"\n");
    Setup::listening(&listener, "health.check = \"off\"", nginx.backends.clone()).and(&more).start()
}

/// Slow heads, slow bodies, many ranges, slow reading.
#[test]
fn crowds_of_the_slow_keep_nobody_from_being_served() {
    let nginx = Nginx::start(&["a"]);
    // More of it, and the kernel's memory for all of TCP would be the limit, at which every connection of the machine stalls.
    nginx.file("big", &vec![b'x'; 256 << 10]);
    let instance = shop(&nginx);
    let (web, pid) = (instance.listener("web"), instance.pid("dataplane"));
    let bystander = Bystander::start(&web, "/");
    bystander.waits(50);
    let before = (resident(pid), descriptors(pid));
    for (mode, path) in [("-H", "/"), ("-B", "/reads"), ("-R", "/files/big"), ("-X", "/files/big")] {
        let mut command = Command::new("slowhttptest");
        command.args([mode, "-c", "400", "-r", "200", "-i", "1", "-l", "5", "-p", "3", "-u"]);
        command.arg(format!("http://{web}{path}"));
        let mut slow = Running::start(command);
        let mut longest = Duration::ZERO;
        let mut most = 0;
        while !slow.has_ended() {
            longest = longest.max(*bystander.waits(10).last().unwrap());
            most = most.max(descriptors(pid));
        }
        let said = slow.stdout();
        support::figure(format_args!("{mode}: at most {most} descriptors; who was quick waited {longest:?} at most"));
        // Whoever asks for ranges is served too fast to become a crowd.
        assert!(mode == "-R" || most > before.1 + 100, "{mode} has brought a crowd: {said}");
        // All of them at once would be served within what a busy machine takes, and the slow within seconds.
        assert!(longest < Duration::from_secs(5), "{mode}: {longest:?}");
        eventually("their connections are closed", || (descriptors(pid) < before.1 + 50).then_some(()));
    }
    bystander.end();
    let grown = resident(pid).saturating_sub(before.0);
    assert!(grown < 48 << 20, "{} MiB", grown >> 20);
    assert_eq!(instance.pid("dataplane"), pid);
}

#[test]
fn twenty_thousand_connections_leave_nothing_behind() {
    const BATCH: usize = 500;
    let nginx = Nginx::start(&["a"]);
    let instance = shop(&nginx);
    let (web, pid) = (instance.listener("web"), instance.pid("dataplane"));
    let batch = |asks: bool| {
        let mut streams: Vec<_> = (0..BATCH).map(|_| TcpStream::connect(&web).unwrap()).collect();
        if asks {
            for stream in streams.iter_mut().step_by(10) {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
        }
        // The half of them leaves by a reset.
        for stream in streams.iter().step_by(2) {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    };
    assert_eq!(get(&web, "/", &[]).status, 200);
    let at_rest = descriptors(pid);
    let batches = |count: usize| {
        for at in 0..count {
            batch(at % 2 == 0);
            // Those of the backend are kept.
            within(2 * support::PATIENCE, "all are gone", || (descriptors(pid) <= at_rest + 60).then_some(()));
        }
    };
    // What there is of buffers and tables at most, there is by then.
    batches(20);
    let before = (resident(pid), descriptors(pid));
    batches(20);
    let grown = resident(pid).saturating_sub(before.0);
    support::figure(format_args!("20,000 connections: {} KiB more, {} descriptors as before", grown >> 10, before.1));
    assert!(grown < 12 << 20, "{} MiB", grown >> 20);
    assert_eq!(get(&web, "/", &[]).status, 200);
}

/// The slope of a line through points that stand apart evenly, by the median of all pairs (Theil and Sen): one value that is out
/// of line, as of a table that grows once, says nothing.
fn slope(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|i| (i + 1..values.len()).map(move |j| (i, j)));
    let mut slopes: Vec<_> = pairs.map(|(i, j)| (values[j] - values[i]) / (j - i) as f64).collect();
    slopes.sort_by(f64::total_cmp);
    slopes[slopes.len() / 2]
}

#[test]
fn memory_and_descriptors_stay_as_they_are() {
    const POINTS: u32 = 20;
    let time = soak().unwrap_or(Duration::from_secs(15));
    let nginx = Nginx::start(&["a", "b", "c"]);
    let instance = shop(&nginx);
    let (web, pid, admin) = (instance.listener("web"), instance.pid("dataplane"), instance.pid("admin"));
    let callers = Callers::start(&web, 8);
    // Sessions are counted one by one up to a bound, and backends' connections are opened: it warms up first.
    callers.all_are_answered(500);
    let (mut of_dataplane, mut of_admin, mut open) = (Vec::new(), Vec::new(), Vec::new());
    for point in 1..=POINTS {
        let until = Instant::now() + time / POINTS;
        while Instant::now() < until {
            // New sessions too, and who breaks off, but no more of them in a long run than in a short one.
            drop(get(&web, "/", &[]));
            drop(TcpStream::connect(&web).unwrap().write_all(b"GET / HT"));
            thread::park_timeout(time / POINTS / 20);
        }
        of_dataplane.push(resident(pid) as f64);
        of_admin.push(resident(admin) as f64);
        open.push(descriptors(pid) as f64);
        assert_eq!(instance.pid("dataplane"), pid, "at point {point}");
    }
    let seen = sum(&callers.end());
    assert!(seen.lost() == 0 && seen.moved == 0, "{seen:?}");
    let grows = [&of_dataplane, &of_admin, &open].map(|values| slope(values) * f64::from(POINTS));
    support::figure(format_args!(
        "{time:?}, {} requests: data plane {:+.0} KiB, admin {:+.0} KiB, descriptors {:+.1}",
        seen.served,
        grows[0] / 1024.0,
        grows[1] / 1024.0,
        grows[2]
    ));
    assert!(grows[0] < f64::from(4 << 20) && grows[1] < f64::from(8 << 20) && grows[2] < 10.0, "{grows:?}");
}
