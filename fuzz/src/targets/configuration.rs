//! A configuration file: every mistake has its line, and one without mistakes goes over the control channel unchanged.

#[path = "../../../src/config/text/mod.rs"]
mod text;

use control::{
    config::Config,
    desired::{Desired, PoolState, Snapshot},
    message::{ToDataplane, from_line, to_line},
};
use text::judge;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (config, mistakes) = judge(text, |_| Vec::new());
    if !mistakes.is_empty() {
        let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
        for mistake in mistakes {
            assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake:?}");
            assert!(!mistake.problem.wrong.is_empty());
            assert!(!mistake.problem.to_string().contains('\n'), "a mistake is one line: {}", mistake.problem);
        }
        return;
    }
    let written = serde_json::to_vec(&config).expect("a configuration has string keys");
    let again: Config = serde_json::from_slice(&written).expect("what is written can be read");
    assert_eq!(again, config);
    let written = toml::to_string(&config).expect("a configuration can be a file");
    let (again, mistakes) = judge(&written, |_| Vec::new());
    assert!(mistakes.is_empty() && again == config, "{mistakes:?} in {written}");
    let pools = config.pools.iter().map(|pool| (pool.name.clone(), PoolState::seed(pool.clone(), 1)));
    let desired = Desired { listeners: config.listeners.clone(), pools: pools.collect(), ..Desired::default() };
    let snapshot = Snapshot { generation: 1, desired, ..Snapshot::default() };
    let message = ToDataplane::Snapshot { snapshot: Box::new(snapshot) };
    let line = to_line(&message);
    assert_eq!(from_line::<ToDataplane>(&line).as_ref(), Ok(&message));
}
