//! The ring by which ingress-nginx places its sessions: that of lua-resty-balancer, which is nginx's `hash … consistent`.

/// Points of each member for each unit of its weight.
const POINTS: u32 = 160;

/// Members at their places, in order.
#[derive(Clone, Debug)]
pub(super) struct Ketama(Box<[(u32, u16)]>);

impl Ketama {
    pub(super) fn new(members: impl Iterator<Item = (u16, String, u32)>) -> Self {
        let mut points = Vec::new();
        for (index, name, weight) in members {
            let base = crc32(u32::MAX, name.as_bytes());
            let mut point = 0_u32;
            for _ in 0..POINTS * weight {
                point = !crc32(base, &point.to_le_bytes());
                points.push((point, index));
            }
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The member of the first place that is not before the key's.
    pub(super) fn find(&self, key: &[u8]) -> Option<u16> {
        let place = !crc32(u32::MAX, key);
        let after = self.0.partition_point(|(point, _)| *point < place);
        self.0.get(after).or(self.0.first()).map(|(_, index)| *index)
    }
}

/// CRC-32 of IEEE 802.3 without the last inversion, bit by bit: for some thirty bytes now and then.
fn crc32(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of CRCs.
    #[test]
    fn crc32_is_that_of_ieee() {
        assert_eq!(!crc32(u32::MAX, b"123456789"), 0xCBF4_3926);
    }

    /// Test 1 of lua-resty-balancer's `t/chash.t`.
    #[test]
    fn keys_fall_as_published() {
        let members = [(0, "server1", 10), (1, "server2", 2), (2, "server3", 1)];
        let ring = Ketama::new(members.iter().map(|(index, name, weight)| (*index, (*name).to_owned(), *weight)));
        assert_eq!(ring.0.len(), 2_080);
        let mut counts = [0; 3];
        for key in 1..=100_000 {
            counts[usize::from(ring.find(key.to_string().as_bytes()).unwrap())] += 1;
        }
        assert_eq!(counts, [77_075, 14_743, 8_182]);
        assert_eq!(Ketama::new(std::iter::empty()).find(b"1"), None);
    }
}
