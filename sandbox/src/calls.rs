//! seccomp: the system calls that each process makes. Any other is answered with ENOSYS, as by a kernel that has no such call: the
//! C library then falls back on what every kernel has, where killing the process would take its clients along. The kernel writes
//! such calls into its log.

use super::Role;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::{collections::BTreeMap, io};

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Holds for all threads that there are and will be.
pub(super) fn restrict(role: Role) -> Result<(), String> {
    let both = || Ok([(program(quiet(), true)?, 0), (program(rules(role)?, false)?, libc::SECCOMP_FILTER_FLAG_LOG)]);
    let both: Result<_, BackendError> = both();
    // The last of them forbids to install another.
    let installed =
        both.map_err(|error| error.to_string())?.iter().try_for_each(|(program, flag)| install(program, *flag));
    installed.map_err(|error| error.to_string())
}

/// Refuses either the calls that `rules` name, or all others.
fn program(rules: Rules, named: bool) -> Result<BpfProgram, BackendError> {
    let (refused, allowed) = (SeccompAction::Errno(libc::ENOSYS.unsigned_abs()), SeccompAction::Allow);
    let (others, those) = if named { (allowed, refused) } else { (refused, allowed) };
    SeccompFilter::new(rules, others, those, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// The crate's own way leaves out that refused calls are logged.
fn install(program: &BpfProgram, flag: libc::c_ulong) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | flag;
    // SAFETY: the kernel copies the program, which lives until the call returns; seccompiler's instructions are laid out as the C
    // library's.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    match done {
        0 => Ok(()),
        // With TSYNC, the thread that could not be had.
        1.. => Err(io::Error::other(format!("thread {done} has a filter of its own"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the C library tries whenever it starts a thread, and does without: what it is asked for can't be seen, so that it could make
/// namespaces. Refused by a filter of its own, it does not fill the kernel's log.
fn quiet() -> Rules {
    [(libc::SYS_clone3, Vec::new())].into()
}

fn rules(role: Role) -> Result<Rules, BackendError> {
    let own: &[_] = match role {
        Role::Dataplane => DATAPLANE,
        Role::Admin => ADMIN,
    };
    let whole = [FILES, MEMORY, THREADS, NETWORK, OLD, &[libc::SYS_clone3], own].into_iter().flatten();
    let mut rules: Rules = whole.map(|call| (*call, Vec::new())).collect();
    let pid = u64::from(std::process::id());
    // Threads, and no namespaces.
    let namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let threads = libc::CLONE_VM | libc::CLONE_THREAD;
    let flags = |flags: libc::c_int| u64::from(flags.cast_unsigned());
    rules.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![masked(0, flags(namespaces | threads), flags(threads))?])?],
    );
    // Signals to itself, as `abort` sends them.
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, pid)?])?]);
    rules.insert(libc::SYS_prlimit64, each(0, [0, pid])?);
    rules.insert(libc::SYS_prctl, each(0, [libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64, PR_SET_VMA])?);
    rules.insert(libc::SYS_ioctl, each(1, [libc::FIONBIO, libc::FIONREAD, libc::TCGETS, libc::TIOCGWINSZ])?);
    // Memory is written to or executed, not both: libraries are loaded so when names are looked up.
    let (write, execute) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    rules.insert(libc::SYS_mmap, vec![without(2, write)?, without(2, execute)?]);
    rules.insert(libc::SYS_mprotect, vec![without(2, execute)?]);
    let mut sockets = each(0, [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64])?;
    if role == Role::Admin {
        // Which addresses this machine has, by which the C library sorts those that it found.
        let routes = [is(0, libc::AF_NETLINK as u64)?, is(2, libc::NETLINK_ROUTE as u64)?];
        sockets.push(SeccompRule::new(routes.into())?);
    }
    rules.insert(libc::SYS_socket, sockets);
    Ok(rules)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

fn without(argument: u8, bits: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![masked(argument, bits, 0)?])
}

/// One rule for each value that an argument may have.
fn each<const N: usize>(argument: u8, values: [u64; N]) -> Result<Vec<SeccompRule>, BackendError> {
    values.into_iter().map(|value| SeccompRule::new(vec![is(argument, value)?])).collect()
}

/// `libc` has it for some targets only.
const PR_SET_VMA: u64 = 0x5356_4d41;

const FILES: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
];

const MEMORY: &[libc::c_long] =
    &[libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_mincore, libc::SYS_membarrier];

const THREADS: &[libc::c_long] = &[
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

const NETWORK: &[libc::c_long] = &[
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
];

const DATAPLANE: &[libc::c_long] = &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

const ADMIN: &[libc::c_long] = &[libc::SYS_timerfd_create, libc::SYS_timerfd_settime];

/// What newer machines have other names for.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];
