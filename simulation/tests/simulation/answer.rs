use crate::{
    command::{Command, What},
    node::{Node, Pending, WORKERS, check_file, check_members},
};
use admin::simulation::Answer;
use control::{config::Source, desired::Snapshot};

/// What was answered is so, and what was refused has changed nothing.
pub(crate) fn check_answer(node: &mut Node, pending: Pending, answer: &Answer, unix: u64) {
    let Pending { command, before, file, .. } = pending;
    let now = node.admin.as_ref().unwrap().snapshot();
    let is_done = answer.status < 300;
    assert!(!(command.must_be_refused() && is_done), "{command:?} was not refused");
    let done: &[Command] = if is_done { std::slice::from_ref(&command) } else { &[] };
    for pool in ["shop", "addresses"] {
        let (was, is) = (&before.desired.pools[pool].members, &now.desired.pools[pool].members);
        match (&command.what, is_done, node.source()) {
            (What::Reload, true, Source::File) => check_file(&file, pool, is),
            _ => check_members(pool, (was, is), done, unix, "after an answer"),
        }
        let (old, new) = (was.get(&command.backend), is.get(&command.backend));
        if is_done && command.pool == pool && !matches!(command.what, What::Reload) && old == new {
            assert!(command.leads(old, new), "{command:?} was answered as done and left {old:?} as it was");
        }
    }
    if node.source() == Source::File && is_done {
        assert!(
            matches!(command.what, What::Reload | What::Health(_)),
            "the file alone says what there is: {command:?}"
        );
    }
    if answer.status >= 500 {
        node.doubtful = Some(command.clone());
    } else if is_done && before.desired.pools != now.desired.pools {
        // What was written made the store anew.
        node.doubtful = None;
    }
    if let Some(generation) = answer.body["generation"].as_u64().filter(|_| is_done) {
        assert!(generation <= now.generation);
        if answer.body["applied"] == true {
            node.applied = node.applied.max(generation);
            // What checks find is written down a second later; what is commanded, before it is answered.
            let health = |snapshot: &Snapshot| snapshot.observed(command.pool, &command.backend).health;
            let is_commanded = matches!(command.what, What::Health(_)) && health(&before) != health(&now);
            if before.desired.pools != now.desired.pools || is_commanded {
                node.lasting = node.lasting.max(generation);
            }
            let plane = node.plane.as_ref();
            for worker in 0..WORKERS {
                let acts = plane.map(|plane| plane.table(worker, |table| table.generation));
                // One that has just started serves nobody before it has heard as much.
                assert!(
                    acts.is_none_or(|acts| acts == 0 || acts >= generation),
                    "worker {worker} is at {acts:?}: {answer:?}"
                );
            }
        }
    }
}
