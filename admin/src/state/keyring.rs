//! The keys as operators change them, in the keys file first and then in the desired state.

use super::{
    State, Written, off_the_runtime,
    precondition::{Precondition, tag},
    refusal::Refusal,
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
    /// A new key that seals, before the newest ones that the keys file has: `keep` in all. How many keys there are, and how
    /// many were dropped.
    pub(crate) async fn rotate_keys(self: &Arc<Self>, keep: usize) -> Result<(Written, usize, usize), Refusal> {
        let written = self.change_keys(move |_, known| {
            let keys = keys::rotated(&known, keep)?;
            let counts = (keys.len(), (known.len() + 1).saturating_sub(keys.len()));
            Ok((keys, counts))
        });
        written.await.map(|(written, (keys, dropped))| (written, keys, dropped))
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
        let names: Vec<_> = known.iter().map(|entry| name(&entry.key)).collect();
        let refused = |reason: String| Err(Refusal::KeyInUse(reason));
        let shared = self.lock();
        let seals = |name: &String| name == wanted;
        if names.first().is_some_and(seals)
            || shared.snapshot.desired.keys.first().map(name).as_ref().is_some_and(seals)
        {
            return refused(format!(
                "key `{wanted}` seals: rotate the keys first, then wait until its tokens are gone"
            ));
        }
        match names.iter().filter(|name| *name == wanted).count() {
            0 => return Err(Refusal::NoKey { key: wanted.to_owned(), known: names }),
            1 => {}
            _ => {
                return refused(format!(
                    "several keys are called `{wanted}`: take one out of the keys file, and reload"
                ));
            }
        }
        let watched = shared.history.keys.find(wanted);
        let rests_for = watched.and_then(|watched| watched.rests_for(self.clock.millis(), clock::unix_millis()));
        // One that only the file has opens nothing here.
        let (may_go, why) = Wait::of(&shared.snapshot.desired).verdict(watched.map_or(Some(u64::MAX), |_| rests_for));
        if may_go || force {
            return Ok(());
        }
        refused(format!(
            "key `{wanted}` is still needed: {why}; or add ?force=true, and the sessions of its tokens begin anew"
        ))
    }

    /// Puts what `change` makes of the keys file's keys into the file, and then into the desired state.
    async fn change_keys<T, F>(self: &Arc<Self>, change_of: F) -> Result<(Written, T), Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Self, Vec<Entry>) -> Result<(Vec<Entry>, T), Refusal> + Send + 'static,
    {
        self.detached(move |state| async move {
            let mut writer = state.writer.lock().await;
            let (path, planner) = (state.keys_path.clone(), Arc::clone(&state));
            let (entries, told) = off_the_runtime(move || {
                let (entries, told) = change_of(&planner, keys::load(&path)?)?;
                keys::save(&path, &entries)?;
                Ok::<_, Refusal>((entries, told))
            })
            .await??;
            let written = state.commit(&mut writer, vec![change(&entries)].into()).await?;
            state.lock().added = added(&entries);
            Ok((written, told))
        })
        .await
    }
}
