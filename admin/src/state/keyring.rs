//! The keys as operators change them, in the keys file first and then in the desired state.

use super::{
    State, Written, off_the_runtime,
    precondition::{Precondition, tag},
    refusal::Refusal,
    shared::Shared,
};
use crate::{
    clock,
    history::keys::{Wait, name},
    keys::{self, Entry},
};
use control::{desired::Change, spec::Key};
use std::{collections::BTreeMap, sync::Arc};

/// When keys were made, in Unix seconds, by their names, as far as the keys file says.
pub(crate) type Added = BTreeMap<String, u64>;

pub(super) fn added(entries: &[Entry]) -> Added {
    entries.iter().filter_map(|entry| Some((name(&entry.key), entry.added?))).collect()
}

pub(super) fn change(entries: &[Entry]) -> Change {
    Change::Keys { keys: entries.iter().map(|entry| entry.key.clone()).collect() }
}

/// The change that leads to the file's keys, where they are others.
pub(super) fn news(known: &[Key], entries: &[Entry]) -> Option<Change> {
    let differ = !known.iter().eq(entries.iter().map(|entry| &entry.key));
    differ.then(|| change(entries))
}

/// The tag of the list of keys: of which there are, and in what order.
pub(crate) fn tag_of(keys: &[Key]) -> String {
    tag(&keys.iter().map(name).collect::<Vec<_>>())
}

impl State {
    /// A new key before the newest ones that the keys file has, `keep` in all: the one that seals, or one behind that. How
    /// many keys there are, and how many were dropped.
    pub(crate) async fn rotate_keys(
        self: &Arc<Self>,
        keep: usize,
        seals: bool,
    ) -> Result<(Written, usize, usize), Refusal> {
        let written = self.change_keys(move |_, known| {
            let keys = if seals { keys::rotated(&known, keep)? } else { keys::staged(&known, keep)? };
            let counts = (keys.len(), (known.len() + 1).saturating_sub(keys.len()));
            Ok((keys, counts))
        });
        written.await.map(|(written, (keys, dropped))| (written, keys, dropped))
    }

    /// Puts a key first, so that it seals; the one before it opens on. How many keys there are.
    pub(crate) async fn seal_with(
        self: &Arc<Self>,
        wanted: String,
        precondition: Precondition,
    ) -> Result<(Written, usize), Refusal> {
        self.change_keys(move |state, mut known| {
            precondition.check(Some(tag_of(&state.lock().snapshot.desired.keys)))?;
            let at = place(&known, &wanted)?;
            known[..=at].rotate_right(1);
            let count = known.len();
            Ok((known, count))
        })
        .await
    }

    /// Takes a key away, so that its tokens open no more: where it seals nothing, and, unless `force`, where none of its
    /// tokens can be left. How many keys there are.
    pub(crate) async fn remove_key(
        self: &Arc<Self>,
        wanted: String,
        force: bool,
        precondition: Precondition,
    ) -> Result<(Written, usize), Refusal> {
        self.change_keys(move |state, known| {
            precondition.check(Some(tag_of(&state.lock().snapshot.desired.keys)))?;
            state.may_remove(&wanted, &known, force)?;
            let keys: Vec<_> = known.into_iter().filter(|entry| name(&entry.key) != wanted).collect();
            let count = keys.len();
            Ok((keys, count))
        })
        .await
    }

    fn may_remove(&self, wanted: &str, known: &[Entry], force: bool) -> Result<(), Refusal> {
        let shared = self.lock();
        let sealing = shared.snapshot.desired.keys.first().map(name);
        if place(known, wanted)? == 0 || sealing.is_some_and(|sealing| sealing == wanted) {
            let reason = format!("key `{wanted}` seals: rotate the keys first, then wait until its tokens are gone");
            return Err(Refusal::KeyInUse(reason));
        }
        let judged = judge(&shared, self.clock.millis(), clock::unix_millis());
        // One that only the file has opens nothing here.
        match judged.into_iter().find(|judged| judged.key == wanted) {
            Some(Judged { may_go: false, why, .. }) if !force => Err(Refusal::KeyInUse(format!(
                "key `{wanted}` is still needed: {why}; or add ?force=true, and the sessions of its tokens begin anew"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Puts what `change` makes of the keys file's keys into the file, and then into the desired state.
    async fn change_keys<T, F>(self: &Arc<Self>, change_of: F) -> Result<(Written, T), Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Self, Vec<Entry>) -> Result<(Vec<Entry>, T), Refusal> + Send + 'static,
    {
        self.detached(move |state| async move {
            let _files = state.files.lock().await;
            let (path, planner) = (state.keys_path.clone(), Arc::clone(&state));
            let (entries, told) = off_the_runtime(move || {
                let (entries, told) = change_of(&planner, keys::load(&path)?)?;
                keys::save(&path, &entries)?;
                Ok::<_, Refusal>((entries, told))
            })
            .await??;
            // Keys are stored by their file alone.
            let generation = state.publish(state.lock(), vec![change(&entries)]);
            let written = Written { generation, changed: true, created: false };
            state.lock().added = added(&entries);
            Ok((written, told))
        })
        .await
    }
}

/// Where the one key of this name stands.
fn place(known: &[Entry], wanted: &str) -> Result<usize, Refusal> {
    let names: Vec<_> = known.iter().map(|entry| name(&entry.key)).collect();
    let mut places = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(place, _)| place);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(Refusal::KeyInUse(format!(
            "several keys are called `{wanted}`: put them as they are to be in the keys file, and reload"
        ))),
        (None, _) => Err(Refusal::NoKey { key: wanted.to_owned(), known: names }),
    }
}

/// A key, and whether it may go.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) key: String,
    pub(crate) may_go: bool,
    pub(crate) why: String,
}

/// Every key in its order. `now` is by the monotonic clock, `unix` in Unix milliseconds.
pub(crate) fn judge(shared: &Shared, now: u64, unix: u64) -> Vec<Judged> {
    let desired = &shared.snapshot.desired;
    let wait = Wait::of(desired);
    let names: Vec<_> = desired.keys.iter().map(name).collect();
    let sealing = names.first().and_then(|name| shared.added.get(name)).copied();
    let judged = names.into_iter().map(|key| {
        let rests_for = shared.history.keys.find(&key).and_then(|watched| watched.rests_for(now, unix));
        let is_newer = shared.added.get(&key).zip(sealing).is_some_and(|(added, sealing)| *added > sealing);
        let (may_go, why) = wait.verdict(rests_for, is_newer);
        Judged { key, may_go, why }
    });
    judged.collect()
}
