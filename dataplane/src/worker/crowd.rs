//! How many connections each client address has.

use ahash::AHashMap;
use std::{
    cell::RefCell,
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
};

/// The open connections of a worker, by listener and address. Only addresses that have any take memory.
#[derive(Debug, Default)]
pub(super) struct Crowd(RefCell<AHashMap<Key, u32>>);

/// A listener's number, and an address, of IPv6 the /64 that one household has.
type Key = (usize, IpAddr);

/// One connection of an address, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted {
    all: Rc<Crowd>,
    key: Key,
}

impl Crowd {
    /// Counts one more connection of `address`; `None` where it has `most` already.
    pub(super) fn admit(self: &Rc<Self>, listener: usize, address: IpAddr, most: u32) -> Option<Counted> {
        let key = (listener, household(address));
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { all: Rc::clone(self), key })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.0.borrow_mut();
        let Some(count) = counts.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.key);
            // What a crowd took is given back once it is gone.
            if counts.capacity() > SPARE && counts.len() < counts.capacity() / 4 {
                counts.shrink_to(SPARE);
            }
        }
    }
}

/// Room for so many addresses is kept.
const SPARE: usize = 1_024;

fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_own_share_at_each_listener() {
        let crowd = Rc::new(Crowd::default());
        let held: Vec<_> = (0..3).map(|_| crowd.admit(0, address("10.0.0.1"), 3).unwrap()).collect();
        assert!(crowd.admit(0, address("10.0.0.1"), 3).is_none());
        assert!(
            crowd.admit(0, address("::ffff:10.0.0.1"), 3).is_none(),
            "the same, as a socket of both families has it"
        );
        assert!(crowd.admit(0, address("10.0.0.2"), 3).is_some() && crowd.admit(1, address("10.0.0.1"), 3).is_some());
        drop(held);
        assert!(crowd.admit(0, address("10.0.0.1"), 3).is_some());
    }

    #[test]
    fn a_household_is_one_address() {
        let crowd = Rc::new(Crowd::default());
        let _held = crowd.admit(0, address("2001:db8:1:2::1"), 1).unwrap();
        assert!(crowd.admit(0, address("2001:db8:1:2:ffff::2"), 1).is_none());
        assert!(crowd.admit(0, address("2001:db8:1:3::1"), 1).is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let crowd = Rc::new(Crowd::default());
        let held: Vec<_> = (0..100_000u32).map(|bits| crowd.admit(0, IpAddr::V4(bits.into()), 1).unwrap()).collect();
        drop(held);
        assert!(crowd.0.borrow().is_empty() && crowd.0.borrow().capacity() <= 2 * SPARE);
    }
}
