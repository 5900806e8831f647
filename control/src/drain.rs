//! Drains: how a backend is to lose its sessions.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A drain under way, or the one that its deadline ended where the backend is in maintenance. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub mode: DrainMode,
    pub since: u64,
    /// When what is left is dealt with, as `then` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Of the mode `migrate`: how many of the sessions have moved at the deadline; all of them unless it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// What is done when nothing is left, and with what is left at the deadline. Absent where nobody said so: then the
    /// deadline alone does something, which is maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What happens to the sessions of a draining backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DrainMode {
    /// They stay until they end.
    #[default]
    Persist,
    /// They stay, and their tokens are not renewed: the idle timeout ends also those that are busy.
    Retire,
    /// A share of them that grows up to the deadline moves to the ring's next.
    Migrate,
}

/// How a drain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It drains on.
    Leave,
    /// The backend gets nothing any more.
    #[default]
    Maintenance,
    /// The same, and what is still open there is closed.
    Close,
    /// The backend is removed.
    Remove,
}

/// A share of a whole, from 0 to 1 in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    pub const ALL: Self = Self(1_000_000);

    /// `None` below 0 and above 1.
    pub fn new(share: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to a million")]
        (0.0..=1.0).contains(&share).then(|| Self((share * 1e6).round() as u32))
    }

    pub const fn millionths(self) -> u32 {
        self.0
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        Self::new(share).ok_or_else(|| D::Error::custom(format!("{share} is no share: write 0.0 to 1.0")))
    }
}

impl Drain {
    pub fn share(&self) -> Share {
        self.share.unwrap_or(Share::ALL)
    }

    /// What is done with what is left at the deadline.
    pub fn at_deadline(&self) -> Then {
        self.then.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_written() {
        for (text, millionths) in [("0.0", 0), ("0.25", 250_000), ("0.333333", 333_333), ("1.0", 1_000_000)] {
            let share: Share = serde_json::from_str(text).unwrap();
            assert_eq!((share.millionths(), serde_json::to_string(&share).unwrap().as_str()), (millionths, text));
        }
        for text in ["-0.1", "1.1", "1e300", "\"a\""] {
            assert!(serde_json::from_str::<Share>(text).is_err(), "{text}");
        }
    }
}
