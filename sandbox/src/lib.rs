//! What the data plane and the admin process take away from themselves before they serve: what they never need can't be taken
//! advantage of. Each part is taken as far as the kernel has it, and what holds in the end is told.

mod calls;
mod files;

use control::status::Sandbox;
use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};
use std::{fmt, io, path::PathBuf};

/// Which process it is, and by that which system calls it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has io_uring, whose operations no filter of system calls sees.
    Dataplane,
    /// It looks up names.
    Admin,
}

/// Something that could not be had.
#[derive(Debug)]
pub struct Missing {
    pub part: &'static str,
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

/// Restricts this thread, and all that it starts from now on, for good. `writes` are the folders and files that may be written to.
/// Everything may be read, as far as the user may: a reload names other certificates and lists, and what was taken away never
/// comes back.
pub fn enter(role: Role, writes: &[PathBuf]) -> (Sandbox, Vec<Missing>) {
    let (mut holds, mut missing) = (Sandbox::default(), Vec::new());
    let mut took = |part, done: Result<(), String>| {
        let is_done = done.is_ok();
        missing.extend(done.err().map(|why| Missing { part, why }));
        is_done
    };
    took("without core dumps", no_dumps().map_err(|error| error.to_string()));
    holds.no_new_privileges = took("no new privileges", no_new_privileges().map_err(|error| error.to_string()));
    let landlock = files::restrict(writes);
    holds.landlock = *landlock.as_ref().unwrap_or(&0);
    took("Landlock", landlock.map(drop));
    // The last of them: it forbids what the others are made with.
    holds.seccomp = took("seccomp", calls::restrict(role));
    (holds, missing)
}

/// A program that is started, or a set-user-id bit, gives nothing that this process does not have.
pub fn no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Keys are in memory, and a core dump would be a copy of them. Other processes of the same user can't look into this one either.
fn no_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A program that takes core dumps from the kernel is not held by that limit, but by this.
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
