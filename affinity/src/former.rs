//! Backends that a pool had: so that it can be told whose sessions those are that come when it is gone.

use crate::token::PoolKeys;
use ahash::AHashMap;

/// How many are remembered, the last that went.
const MOST: usize = 64;

/// Names with their slots, and the refs by which tokens name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Former {
    members: Vec<(String, u32)>,
    /// For each key.
    refs: Vec<AHashMap<u64, u32>>,
}

impl Former {
    /// `before` and those who have `left` since, without those that are `there` again.
    pub(crate) fn new<'a>(
        before: Option<&'a Self>,
        left: impl Iterator<Item = (&'a str, u32)>,
        there: impl Fn(&str) -> bool,
        keys: Option<(&PoolKeys, usize)>,
    ) -> Self {
        let before = before.into_iter().flat_map(|before| &before.members);
        let all = before.map(|(name, slot)| (name.as_str(), *slot)).chain(left);
        let mut members: Vec<_> =
            all.filter(|(name, _)| !there(name)).map(|(name, slot)| (name.to_owned(), slot)).collect();
        members.drain(..members.len().saturating_sub(MOST));
        let refs = keys.into_iter().flat_map(|(keys, count)| (0..count).map(move |key| (keys, key)));
        let refs =
            refs.map(|(keys, key)| members.iter().map(|(name, slot)| (keys.backend_ref(key, name), *slot)).collect());
        Self { refs: refs.collect(), members }
    }

    pub(crate) fn by_ref(&self, key_index: usize, backend_ref: u64) -> Option<u32> {
        self.refs.get(key_index)?.get(&backend_ref).copied()
    }

    pub(crate) fn by_name(&self, name: &[u8]) -> Option<u32> {
        self.members.iter().find(|(member, _)| member.as_bytes() == name).map(|(_, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::MasterKey;

    #[test]
    fn the_last_that_went_are_known_until_they_are_there_again() {
        let keys = PoolKeys::new("shop", &[MasterKey::new([1; 32]), MasterKey::new([2; 32])]).unwrap();
        let names: Vec<_> = (0..2 * MOST).map(|n| format!("app-{n}")).collect();
        let left = (0..).zip(&names).map(|(slot, name)| (name.as_str(), slot));
        let former = Former::new(None, left, |_| false, Some((&keys, 2)));
        let last = u32::try_from(names.len() - 1).unwrap();
        assert_eq!((former.by_name(b"app-0"), former.by_name(names[last as usize].as_bytes())), (None, Some(last)));
        let name = &names[last as usize];
        assert_eq!([0, 1].map(|key| former.by_ref(key, keys.backend_ref(key, name))), [Some(last); 2]);
        assert_eq!(former.by_ref(2, keys.backend_ref(0, name)), None);
        let former = Former::new(Some(&former), [("new", 7)].into_iter(), |there| there == name, Some((&keys, 2)));
        assert_eq!((former.by_name(name.as_bytes()), former.by_name(b"new")), (None, Some(7)));
        assert_eq!(former.by_ref(1, keys.backend_ref(1, name)), None);
    }
}
