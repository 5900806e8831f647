use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// JSON in which every field is named once, and a number without a fraction is an integer however it is written: `1.0` is
/// what some clients make of 1, and what JSON Schema takes for one.
#[derive(Debug, PartialEq)]
pub(super) struct Document(pub(super) Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document(Value::Bool(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        /// Whole numbers up to here are exact.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
            return Ok(Document((value as i64).into()));
        }
        Ok(Document(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Document, E> {
        Ok(Document(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut values = Vec::new();
        while let Some(Document(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Document(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut fields = Map::new();
        while let Some((key, Document(value))) = access.next_entry::<String, _>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            fields.insert(key, value);
        }
        Ok(Document(Value::Object(fields)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_json_once_and_whole_numbers_as_integers() {
        let read = |text: &str| serde_json::from_str::<Document>(text).map(|document| document.0);
        for (text, value) in [
            ("null", json!(null)),
            ("[true, -1, \"a\"]", json!([true, -1, "a"])),
            ("{\"a\": {\"b\": 1.0, \"c\": -0.0}}", json!({"a": {"b": 1, "c": 0}})),
            ("[1.5, 1e2, 1e300]", json!([1.5, 100, 1e300])),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(read(text).unwrap(), value);
        }
        let error = read(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).unwrap_err().to_string();
        assert!(error.contains("duplicate field `c`"), "{error}");
    }
}
