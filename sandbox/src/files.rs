//! Landlock: nothing is executed, nothing written but in a few folders, no TCP port bound, nobody else signalled.

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use std::path::PathBuf;

/// What this was tried with. Older kernels have less of it.
const KNOWN: ABI = ABI::V7;

/// What files that are made, replaced and taken away need.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ WriteFile | Truncate | MakeReg | MakeSock | RemoveFile });

/// The version of Landlock that holds from now on, or why none does.
pub(super) fn restrict(writes: &[PathBuf]) -> Result<u32, String> {
    let status = rules(writes).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => Err("the kernel has none".to_owned()),
        (RulesetStatus::NotEnforced, _) => Err("the kernel was started without it (lsm=)".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi.min(KNOWN) as u32),
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => Err("it is not there".to_owned()),
    }
}

fn rules(writes: &[PathBuf]) -> Result<landlock::RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(KNOWN) | AccessFs::Execute)?
        // Where backends are is for the API to say; listening sockets are there by now.
        .handle_access(AccessNet::BindTcp)?
        // Abstract Unix sockets stay: systemd may hear `READY=1` on one.
        .scope(Scope::Signal)?
        .create()?;
    for path in writes {
        // What is not there can't be written to either.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { WRITE } else { WRITE & AccessFs::from_file(KNOWN) };
        rules = rules.add_rule(PathBeneath::new(opened, access))?;
    }
    rules.restrict_self()
}
