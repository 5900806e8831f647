//! A token in front of what the application calls its session: `<token>~<name>`.

use crate::token::SEALED_LEN;

/// Stands between the two: no character of base64url, and one that cookies and header values may have.
pub const SEPARATOR: u8 = b'~';

/// Token and name, where a value has the form of both. Whether the token opens is another question.
pub fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (token, rest) = value.split_at_checked(SEALED_LEN)?;
    let (separator, name) = rest.split_first()?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (*separator == SEPARATOR && token.iter().all(fits)).then_some((token, name))
}

/// What the backend is to see of a value.
pub fn bare(value: &[u8]) -> &[u8] {
    split(value).map_or(value, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::CookieName;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_in_front_comes_off_again(name in ".*", token in "[A-Za-z0-9_-]{63}", before in "(a=1; ?|x)?") {
            let wrapped = format!("{token}~{name}");
            prop_assert_eq!(bare(wrapped.as_bytes()), name.as_bytes());
            let header = format!("{before}sid={wrapped}");
            let mut out = Vec::new();
            CookieName::new("sid").unwrap().replaced(header.as_bytes(), bare, &mut out);
            let bare = if before == "x" { header } else { format!("{before}sid={name}") };
            prop_assert_eq!(String::from_utf8(out).unwrap(), bare);
        }

        #[test]
        fn a_header_without_tokens_is_as_it_was(header in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut out = Vec::new();
            CookieName::new("sid").unwrap().replaced(&header, bare, &mut out);
            prop_assert_eq!(out, header);
        }
    }

    #[test]
    fn only_what_has_the_form_of_a_token_is_taken_off() {
        let token = "A".repeat(SEALED_LEN);
        for (value, name) in [
            (format!("{token}~abc"), "abc"),
            (format!("{token}~"), ""),
            (format!("{token}~~a"), "~a"),
            (format!("{token}~{token}~abc"), &*format!("{token}~abc")),
        ] {
            assert_eq!(bare(value.as_bytes()), name.as_bytes(), "{value}");
        }
        for value in [&token[1..], &token, "", "~", "a~b"] {
            assert_eq!(bare(value.as_bytes()), value.as_bytes());
        }
        for value in [format!("A{token}~abc"), format!("{}~abc", &token[1..]), format!("{}+~abc", &token[1..])] {
            assert_eq!(split(value.as_bytes()), None, "{value}");
        }
    }
}
