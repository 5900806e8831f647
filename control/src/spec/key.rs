use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr};
use zeroize::{Zeroize, Zeroizing};

/// One shared secret of 256 bits, from which each pool's token keys are derived. Written as base64; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

impl Key {
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = STANDARD
            .decode(text)
            .map(Zeroizing::new)
            .map_err(|_| "a key is 32 bytes in base64 (44 characters)".to_owned())?;
        let bytes =
            <[u8; 32]>::try_from(&**bytes).map_err(|_| format!("a key is 32 bytes in base64, not {}", bytes.len()))?;
        Ok(Self(bytes))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(self.to_base64()))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Zeroizing::new(String::deserialize(deserializer)?).parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::ManuallyDrop;

    #[test]
    fn a_key_that_goes_leaves_nothing_behind_and_is_never_shown() {
        let mut key = ManuallyDrop::new(Key([7; 32]));
        assert_eq!(format!("{:?}", *key), "Key(…)");
        // SAFETY: it is dropped once, and what is read afterwards is plain bytes that are still there.
        let left = unsafe {
            ManuallyDrop::drop(&mut key);
            std::ptr::from_ref(&key).cast::<[u8; 32]>().read()
        };
        assert_eq!(left, [0; 32]);
    }
}
