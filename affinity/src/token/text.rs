//! A token's text as bytes: base64url without padding (RFC 4648 section 5), of the one length that tokens have.
//!
//! A library's decoder takes half of all the time that a token's opening takes: it knows no length, and writes in pieces that are
//! read back across their borders before processors have stored them. Here characters become whole words in registers.

use super::{ROOM, SEALED_LEN};

/// Characters to a group, which is three bytes.
const GROUP: usize = 4;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a character is worth at each place of its group; more than 24 bits where it is none.
static WORTH: [[u32; 256]; GROUP] = worth();

const fn worth() -> [[u32; 256]; GROUP] {
    let mut worth = [[u32::MAX; 256]; GROUP];
    let mut place = 0;
    while place < GROUP {
        let mut value = 0;
        while value < ALPHABET.len() {
            worth[place][ALPHABET[value] as usize] = (value as u32) << (6 * (GROUP - 1 - place));
            value += 1;
        }
        place += 1;
    }
    worth
}

/// `None` of what is not canonical: another character, or bits behind the last byte that are not zero.
#[inline]
pub(super) fn decode(text: &[u8; SEALED_LEN]) -> Option<[u8; ROOM]> {
    let mut groups = [0; ROOM / 3];
    let (whole, last) = text.as_chunks::<GROUP>();
    for (group, characters) in groups.iter_mut().zip(whole) {
        *group = group_of(characters);
    }
    groups[whole.len()] = group_of(last);
    let any = groups.iter().fold(0, |any, group| any | group);
    if any >> 24 != 0 || groups[whole.len()] & 0xFF != 0 {
        return None;
    }
    let mut bytes = [0; ROOM];
    let (words, _) = bytes.as_chunks_mut::<24>();
    let (eights, _) = groups.as_chunks::<8>();
    for (words, eight) in words.iter_mut().zip(eights) {
        let [a, b, c, d, e, f, g, h] = eight.map(u64::from);
        let three = [a << 40 | b << 16 | c >> 8, c << 56 | d << 32 | e << 8 | f >> 16, f << 48 | g << 24 | h];
        for (word, value) in words.as_chunks_mut().0.iter_mut().zip(three) {
            *word = value.to_be_bytes();
        }
    }
    Some(bytes)
}

#[inline]
fn group_of(characters: &[u8]) -> u32 {
    characters.iter().zip(&WORTH).fold(0, |group, (&character, worth)| group | worth[usize::from(character)])
}
