//! Cookies in a header's value: ours is found and taken out, and the others stay as they are.

use super::super::input::Input;
use affinity::{
    cookie::{CookieName, is_cookie_name},
    marker::wrapped,
};
use std::sync::LazyLock;

static NAMES: LazyLock<[CookieName; 4]> =
    LazyLock::new(|| ["lb-affinity", "a", "aa", "a.b*"].map(|name| CookieName::new(name).expect("it is a token")));

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let name = &NAMES[usize::from(input.byte()) % NAMES.len()];
    let header = input.rest();
    assert!(is_cookie_name(name.as_bytes()));
    let values: Vec<&[u8]> = segments(header).filter_map(|segment| value_of(segment, name.as_bytes())).collect();
    assert_eq!(name.find(header).collect::<Vec<_>>(), values);
    assert_eq!(name.is_in(header), !values.is_empty());
    let mut left = b"before".to_vec();
    let any = name.without(header, &mut left);
    let left = left.strip_prefix(b"before").expect("what was there stays");
    assert_eq!(any, !left.is_empty());
    assert!(!name.is_in(left));
    let others: Vec<_> = segments(header).filter(|segment| value_of(segment, name.as_bytes()).is_none()).collect();
    assert_eq!(segments(left).collect::<Vec<_>>(), others, "{}", left.escape_ascii());
    let replaced = |inner: fn(&[u8]) -> &[u8]| {
        let mut out = Vec::new();
        name.replaced(header, inner, &mut out);
        out
    };
    assert_eq!(replaced(|value| value), header);
    let bare = replaced(wrapped::bare);
    assert!(bare.len() <= header.len());
    if !values.iter().any(|value| wrapped::split(value).is_some()) {
        assert_eq!(bare, header);
    }
}

/// What stands between semicolons, without the space around it; the empty ones left out.
fn segments(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    header.split(|byte| *byte == b';').map(trim).filter(|segment| !segment.is_empty())
}

fn value_of<'s>(segment: &'s [u8], name: &[u8]) -> Option<&'s [u8]> {
    let equals = segment.iter().position(|byte| *byte == b'=')?;
    if trim(&segment[..equals]) != name {
        return None;
    }
    let value = trim(&segment[equals + 1..]);
    let is_quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
    Some(if is_quoted { &value[1..value.len() - 1] } else { value })
}

fn trim(bytes: &[u8]) -> &[u8] {
    let is_more = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(is_more) else { return b"" };
    &bytes[start..=bytes.iter().rposition(is_more).unwrap_or(start)]
}
