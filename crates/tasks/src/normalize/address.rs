//! Postal addresses on one line: `Hauptstr. 12, 12345 Berlin, Germany`.

use super::{Found, Ruling};
use crate::span::find;
use serde_json::Value;

/// What a model fills in.
pub(super) const SCHEMA: &str = r#"{"type":"object","properties":{
"street":{"type":["string","null"],"maxLength":120},
"number":{"type":["string","null"],"maxLength":20},
"postcode":{"type":["string","null"],"maxLength":12},
"city":{"type":["string","null"],"maxLength":80},
"region":{"type":["string","null"],"maxLength":80},
"country":{"type":["string","null"],"maxLength":60}},
"required":["street","number","postcode","city","region","country"],"additionalProperties":false}"#;

const FIELDS: [&str; 6] = ["street", "number", "postcode", "city", "region", "country"];

/// Street and number, then postcode and city, then perhaps a country: what most of the world writes.
pub(super) fn read(text: &str) -> Ruling {
    let lines: Vec<&str> = text.split(['\n', ',', ';']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let (street, town, country) = match lines.as_slice() {
        [street, town] => (*street, *town, None),
        [street, town, country] if !country.contains(|c: char| c.is_ascii_digit()) => (*street, *town, Some(*country)),
        _ => return Ruling::Unread,
    };
    let Some((street, number)) = number_last(street) else { return Ruling::Unread };
    let Some((postcode, city)) = postcode_first(town) else { return Ruling::Unread };
    let mut fields = vec![("street", street), ("number", number), ("postcode", postcode), ("city", city)];
    fields.extend(country.map(|country| ("country", country.to_owned())));
    Ruling::Is(whole(fields))
}

/// `Hauptstr. 12a`
fn number_last(line: &str) -> Option<(String, String)> {
    let (street, number) = line.rsplit_once(' ')?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    let tail = &number[digits..];
    let well = (1..=5).contains(&digits) && tail.len() <= 6 && !street.contains(|c: char| c.is_ascii_digit());
    (well && street.contains(char::is_alphabetic)).then(|| (street.trim().to_owned(), number.to_owned()))
}

/// `12345 Berlin`, `D-12345 Berlin`
fn postcode_first(line: &str) -> Option<(String, String)> {
    let (code, city) = line.split_once(' ')?;
    let code = code.rsplit_once('-').filter(|(land, _)| land.len() <= 3).map_or(code, |(_, code)| code);
    let well = (4..=6).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
    let named = city.contains(char::is_alphabetic) && !city.contains(|c: char| c.is_ascii_digit());
    (well && named).then(|| (code.to_owned(), city.trim().to_owned()))
}

fn whole(fields: Vec<(&'static str, String)>) -> Found {
    let field = |name: &str| fields.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
    let join = |names: &[&str]| names.iter().filter_map(|name| field(name)).collect::<Vec<_>>().join(" ");
    let parts = [join(&["street", "number"]), join(&["postcode", "city"]), join(&["region"]), join(&["country"])];
    let value = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    Found { value, fields, note: None }
}

/// What a model says of each field counts only where the input holds it.
pub(super) fn of_model(input: &str, said: &str) -> Ruling {
    let Ok(Value::Object(said)) = serde_json::from_str(said) else { return Ruling::Unread };
    let (mut fields, mut invented) = (Vec::new(), Vec::new());
    for name in FIELDS {
        let Some(value) = said.get(name).and_then(Value::as_str).map(str::trim).filter(|value| !value.is_empty())
        else {
            continue;
        };
        match find(input, value) {
            Some(range) => fields.push((name, input[range].to_owned())),
            None => invented.push(name),
        }
    }
    if !fields.iter().any(|(name, _)| matches!(*name, "street" | "city" | "postcode")) {
        return Ruling::Undecided("neither rules nor the model can tell".into());
    }
    let mut found = whole(fields);
    if !invented.is_empty() {
        found.note = Some(format!("the model's {} isn't in the input and was left out", invented.join(", ")));
    }
    Ruling::Is(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_addresses_need_no_model() {
        for (text, expected) in [
            ("Hauptstr. 12\n12345 Berlin", Some("Hauptstr. 12, 12345 Berlin")),
            ("Am Markt 3a, D-04109 Leipzig, Germany", Some("Am Markt 3a, 04109 Leipzig, Germany")),
            ("12 Main Street, Springfield, IL 62701", None),
            ("somewhere", None),
        ] {
            let value = match read(text) {
                Ruling::Is(found) => Some(found.value),
                Ruling::Undecided(_) | Ruling::Unread => None,
            };
            assert_eq!(value.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_model_can_name_only_what_is_there() {
        let said = r#"{"street":"Main Street","number":"12","postcode":"62701","city":"Springfield","region":"IL","country":"USA"}"#;
        let Ruling::Is(found) = of_model("12 Main Street, Springfield, IL 62701", said) else { panic!("read") };
        assert_eq!(found.value, "Main Street 12, 62701 Springfield, IL");
        assert!(found.note.is_some_and(|note| note.contains("country")));
    }
}
