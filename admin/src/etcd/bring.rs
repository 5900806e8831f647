//! An empty prefix: the first node to come fills it with what it has, so that an etcd that is new, or was lost, takes no
//! backend away. In steps, since a transaction is bounded; nobody reads before the last of them has put the format.

use super::{
    Etcd,
    client::Failure,
    follow::pages,
    rows::{FORMAT, Key, Value, parse, whole_range},
    txn::{Compare, MAX_BYTES, MAX_OPS, Op, Txn, everything},
    wire::{self, Range},
};
use crate::state::State;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Whoever fills the prefix and is not heard of for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody else is done.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Somebody else's claim: what wrote it, and since when it is the same.
#[derive(Debug, Default)]
pub(super) struct Claims(Option<(u64, Instant)>);

/// Fills the prefix, or waits a moment where somebody else does, or may know more than one that is `fresh`. Whether it is done
/// is seen by the format.
pub(super) async fn bring(state: &State, etcd: &Etcd, claims: &mut Claims, fresh: bool) -> Result<(), Failure> {
    let own = if fresh { None } else { claim(etcd, claims).await? };
    let Some(mut claim) = own else {
        tokio::time::sleep(LOOK_AGAIN).await;
        return Ok(());
    };
    let prefix = etcd.client.prefix();
    let head = etcd.client.range(&Range::one(&Key::Format.path(prefix))).await?.header;
    let (first, end) = whole_range(prefix);
    let there = pages(&etcd.client, first, &end, head.revision).await?;
    let there: BTreeSet<_> =
        there.iter().filter_map(|told| Key::parse(prefix, &String::from_utf8_lossy(&told.key)).ok()).collect();
    let mut rows = {
        let mirror = etcd.mirror.lock().await;
        let (desired, sections) = state.told_by_file(&mirror.sections());
        let mut rows = everything(&desired, &sections);
        rows.insert(0, (Key::Base, mirror.life().to_string()));
        rows
    };
    // What somebody has written before is meant to be as it is.
    rows.retain(|(key, _)| !there.contains(key));
    tracing::info!(prefix, rows = rows.len(), "etcd holds nothing yet: it gets what this node has");
    let mut rows = rows.into_iter().peekable();
    loop {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        // Two more: the claim, and the format.
        while let Some((key, value)) =
            rows.next_if(|(_, value)| ops.len() + 2 < MAX_OPS && (ops.is_empty() || bytes + value.len() < MAX_BYTES))
        {
            bytes += value.len();
            ops.push(Op::Put(key, value));
        }
        let last = rows.peek().is_none();
        if last {
            ops.extend([Op::Put(Key::Format, FORMAT.to_owned()), Op::Delete(Key::Claim)]);
        } else {
            ops.push(Op::Put(Key::Claim, name()));
        }
        let compares = vec![Compare::Unchanged(Key::Format, 0), Compare::Unchanged(Key::Claim, claim)];
        let answer = etcd.client.txn(&wire::txn(&Txn { compares, ops }, prefix, |_| None)).await?;
        // Otherwise somebody else has taken over, or is done.
        if last || !answer.succeeded {
            return Ok(());
        }
        claim = answer.header.revision;
    }
}

/// The revision of this node's claim to fill the prefix; none where it is somebody else's.
async fn claim(etcd: &Etcd, claims: &mut Claims) -> Result<Option<u64>, Failure> {
    let prefix = etcd.client.prefix();
    let known = etcd.client.range(&Range::one(&Key::Claim.path(prefix))).await?.kvs.into_iter().next();
    let revision = known.as_ref().map_or(0, |kv| kv.mod_revision);
    let own = known.is_some_and(|kv| parse(&Key::Claim, &kv.value, &[]) == Ok(Value::Text(name())));
    if revision > 0 && !own {
        match claims.0 {
            Some((seen, since)) if seen == revision && since.elapsed() >= PATIENCE => {}
            Some((seen, _)) if seen == revision => return Ok(None),
            _ => {
                claims.0 = Some((revision, Instant::now()));
                return Ok(None);
            }
        }
    }
    let compares = vec![Compare::Unchanged(Key::Format, 0), Compare::Unchanged(Key::Claim, revision)];
    let txn = Txn { compares, ops: vec![Op::Put(Key::Claim, name())] };
    let answer = etcd.client.txn(&wire::txn(&txn, prefix, |_| None)).await?;
    Ok(answer.succeeded.then_some(answer.header.revision))
}

/// Of this process, as far as it has to differ from others'.
fn name() -> String {
    use std::sync::LazyLock;
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let mut random = [0; 8];
        // Without chance the pid has to do.
        let _ = getrandom::fill(&mut random);
        format!("{}-{:016x}", std::process::id(), u64::from_ne_bytes(random))
    });
    NAME.clone()
}
