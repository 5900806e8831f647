use super::refusal::Refusal;
use serde::Serialize;

/// The tag of a resource: a hash of what is desired of it, so that live figures don't change it. Without quotes.
pub(crate) fn tag(desired: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(desired).expect("resources have string keys and no failing parts");
    blake3::hash(&bytes).to_hex()[..16].to_owned()
}

/// `If-Match` and `If-None-Match` of a write (RFC 9110 §13.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Precondition {
    pub(crate) matches: Option<Tags>,
    pub(crate) differs: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    Any,
    /// Without quotes. Weak ones are left out of `If-Match`, which compares strongly.
    These(Vec<String>),
}

impl Tags {
    /// Reads a field's value. `None` where it is no list of tags.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let (mut tags, mut rest) = (Vec::new(), text.trim_start());
        while !rest.is_empty() {
            let (weak, after) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
            let (tag, after) = after.strip_prefix('"')?.split_once('"')?;
            if !weak {
                tags.push(tag.to_owned());
            }
            rest = after.trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',')?.trim_start();
            }
        }
        Some(Self::These(tags))
    }

    fn holds(&self, current: Option<&str>) -> bool {
        match (self, current) {
            (Self::Any, current) => current.is_some(),
            (Self::These(tags), Some(current)) => tags.iter().any(|tag| tag == current),
            (Self::These(_), None) => false,
        }
    }
}

impl Precondition {
    /// # Errors
    /// `current`, the tag of what is there, is not what the client wants there.
    pub(crate) fn check(&self, current: Option<String>) -> Result<(), Refusal> {
        let matches = self.matches.as_ref().is_none_or(|tags| tags.holds(current.as_deref()));
        let differs = self.differs.as_ref().is_none_or(|tags| !tags.holds(current.as_deref()));
        if matches && differs { Ok(()) } else { Err(Refusal::Precondition { current }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_of_tags() {
        let these = |tags: &[&str]| Some(Tags::These(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        for (text, tags) in [
            ("*", Some(Tags::Any)),
            (" * ", Some(Tags::Any)),
            ("\"a\"", these(&["a"])),
            ("\"a\", \"b,c\" ,\"\"", these(&["a", "b,c", ""])),
            ("W/\"a\", \"b\"", these(&["b"])),
            ("", these(&[])),
            ("a", None),
            ("\"a", None),
            ("\"a\" \"b\"", None),
            ("w/\"a\"", None),
        ] {
            assert_eq!(Tags::parse(text), tags, "{text}");
        }
    }

    #[test]
    fn truth_table() {
        let check = |matches: Option<&str>, differs: Option<&str>, current: Option<&str>| {
            let tags = |text: Option<&str>| text.map(|text| Tags::parse(text).unwrap());
            let precondition = Precondition { matches: tags(matches), differs: tags(differs) };
            precondition.check(current.map(str::to_owned)).is_ok()
        };
        for (matches, differs, current, passes) in [
            (None, None, None, true),
            (None, None, Some("a"), true),
            (Some("*"), None, None, false),
            (Some("*"), None, Some("a"), true),
            (Some("\"a\""), None, Some("a"), true),
            (Some("\"b\", \"a\""), None, Some("a"), true),
            (Some("\"b\""), None, Some("a"), false),
            (Some("\"a\""), None, None, false),
            (Some("W/\"a\""), None, Some("a"), false),
            (None, Some("*"), None, true),
            (None, Some("*"), Some("a"), false),
            (None, Some("\"a\""), Some("a"), false),
            (None, Some("\"b\""), Some("a"), true),
        ] {
            assert_eq!(check(matches, differs, current), passes, "{matches:?} {differs:?} {current:?}");
        }
    }
}
