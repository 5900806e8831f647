//! What a change is of, and what that was before and is after it. Secrets are left out; of what is there before and after, only
//! what differs is told.

use crate::history::keys;
use control::{
    desired::{Change, Observed, PoolState, Snapshot},
    spec::{Key, Listener, Pool, without_secrets},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Whether a change is somebody's: what checks and look-ups find is not, and rounds of a rebalance follow from its beginning.
/// `with_health` is whether somebody has said how a backend is.
pub(super) fn is_told(before: &Snapshot, change: &Change, with_health: bool) -> bool {
    match change {
        Change::Observe { pool, name, observed } => {
            with_health && before.observed(pool, name).health != observed.health
        }
        Change::Rebalance { pool, round } => before.rebalances.contains_key(pool) != round.is_some(),
        Change::Listeners { listeners } => *listeners != before.desired.listeners,
        Change::Keys { keys } => *keys != before.desired.keys,
        Change::PutPool { .. }
        | Change::RemovePool { .. }
        | Change::PutSettings { .. }
        | Change::PutMember { .. }
        | Change::RemoveMember { .. }
        | Change::PutRelease { .. }
        | Change::RemoveRelease { .. } => true,
    }
}

/// `longest` is in bytes, for each of both states.
pub(super) fn told(before: &Snapshot, change: &Change, longest: usize) -> Value {
    let desired = &before.desired;
    let pool = |name: &str| desired.pools.get(name);
    let member = |of: &str, name: &str| value(&pool(of).and_then(|pool| pool.members.get(name)));
    let (of, before, after) = match change {
        Change::Listeners { listeners } => (json!({ "listeners": null }), named(&desired.listeners), named(listeners)),
        Change::Keys { keys } => (json!({ "keys": null }), names(&desired.keys), names(keys)),
        Change::PutPool { name, pool: new } => (json!({ "pool": name }), whole(pool(name)), whole(Some(new))),
        Change::RemovePool { name } => (json!({ "pool": name }), whole(pool(name)), Value::Null),
        Change::PutSettings { name, settings: new } => {
            (json!({ "pool": name }), settings(pool(name).map(|pool| &pool.settings)), settings(Some(new)))
        }
        Change::PutMember { pool, name, member: new } => {
            (json!({ "pool": pool, "backend": name }), member(pool, name), value(new))
        }
        Change::RemoveMember { pool, name } => {
            (json!({ "pool": pool, "backend": name }), member(pool, name), Value::Null)
        }
        Change::Observe { pool, name, observed: Observed { health, .. } } => {
            let known = before.observed(pool, name).health;
            (json!({ "pool": pool, "backend": name }), json!({ "health": known }), json!({ "health": health }))
        }
        Change::Rebalance { pool, round } => {
            (json!({ "pool": pool, "rebalance": null }), value(&before.rebalances.get(pool)), value(round))
        }
        Change::PutRelease { pool, release } => {
            (json!({ "pool": pool, "release": null }), value(&desired.releases.get(pool)), value(release))
        }
        Change::RemoveRelease { pool } => {
            (json!({ "pool": pool, "release": null }), value(&desired.releases.get(pool)), Value::Null)
        }
    };
    let (before, after) = differing(before, after);
    json!({ "of": of, "before": bounded(before, longest), "after": bounded(after, longest) })
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("what is desired has string keys and no failing parts")
}

fn settings(pool: Option<&Pool>) -> Value {
    let hidden = |pool: &Pool| {
        let mut shown = pool.clone();
        shown.affinity.adopt = without_secrets(&pool.affinity.adopt);
        value(&shown)
    };
    pool.map_or(Value::Null, hidden)
}

fn whole(pool: Option<&PoolState>) -> Value {
    pool.map_or(Value::Null, |pool| json!({ "settings": settings(Some(&pool.settings)), "members": pool.members }))
}

fn named(listeners: &[Listener]) -> Value {
    listeners.iter().map(|listener| (listener.name.clone(), value(listener))).collect::<Map<_, _>>().into()
}

/// What keys are called, in their order: the first seals.
fn names(keys: &[Key]) -> Value {
    keys.iter().map(|key| Value::from(keys::name(key))).collect::<Vec<_>>().into()
}

/// The fields that are not the same; all of it where there is nothing to compare.
fn differing(before: Value, after: Value) -> (Value, Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(mut after)) => {
            let (mut was, mut is) = (Map::new(), Map::new());
            for (name, old) in before {
                match after.remove(&name) {
                    Some(new) if new == old => {}
                    Some(new) => {
                        let (old, new) = differing(old, new);
                        is.insert(name.clone(), new);
                        was.insert(name, old);
                    }
                    None => drop(was.insert(name, old)),
                }
            }
            is.extend(after);
            (was.into(), is.into())
        }
        both => both,
    }
}

fn bounded(value: Value, longest: usize) -> Value {
    let length = value.to_string().len();
    if length <= longest { value } else { json!({ "too_long": length }) }
}
