//! Telephone numbers in E.164: `+4930123456`. Rules alone: a model would invent digits.

use super::{Found, Ruling};

/// Two letters of a country, its calling code, and what stands before a number at home and goes abroad.
const COUNTRIES: [(&str, &str, &str); 62] = [
    ("US", "1", "1"),
    ("CA", "1", "1"),
    ("RU", "7", "8"),
    ("EG", "20", "0"),
    ("ZA", "27", "0"),
    ("GR", "30", ""),
    ("NL", "31", "0"),
    ("BE", "32", "0"),
    ("FR", "33", "0"),
    ("ES", "34", ""),
    ("HU", "36", "06"),
    ("IT", "39", ""),
    ("RO", "40", "0"),
    ("CH", "41", "0"),
    ("AT", "43", "0"),
    ("GB", "44", "0"),
    ("DK", "45", ""),
    ("SE", "46", "0"),
    ("NO", "47", ""),
    ("PL", "48", ""),
    ("DE", "49", "0"),
    ("PE", "51", "0"),
    ("MX", "52", ""),
    ("AR", "54", "0"),
    ("BR", "55", "0"),
    ("CL", "56", ""),
    ("CO", "57", ""),
    ("MY", "60", "0"),
    ("AU", "61", "0"),
    ("ID", "62", "0"),
    ("PH", "63", "0"),
    ("NZ", "64", "0"),
    ("SG", "65", ""),
    ("TH", "66", "0"),
    ("JP", "81", "0"),
    ("KR", "82", "0"),
    ("VN", "84", "0"),
    ("CN", "86", "0"),
    ("TR", "90", "0"),
    ("IN", "91", "0"),
    ("PK", "92", "0"),
    ("LK", "94", "0"),
    ("IR", "98", "0"),
    ("MA", "212", "0"),
    ("NG", "234", "0"),
    ("KE", "254", "0"),
    ("PT", "351", ""),
    ("LU", "352", ""),
    ("IE", "353", "0"),
    ("IS", "354", ""),
    ("FI", "358", "0"),
    ("BG", "359", "0"),
    ("LT", "370", "0"),
    ("LV", "371", ""),
    ("EE", "372", ""),
    ("UA", "380", "0"),
    ("RS", "381", "0"),
    ("HR", "385", "0"),
    ("SI", "386", "0"),
    ("CZ", "420", ""),
    ("SK", "421", "0"),
    ("IL", "972", "0"),
];
/// E.164 has at most so many digits; fewer than the second are an extension or an emergency call.
const DIGITS_MAX: usize = 15;
const DIGITS_MIN: usize = 7;

pub(super) fn calling_code(region: &str) -> Option<&'static str> {
    country(region).map(|(_, code, _)| code)
}

fn country(region: &str) -> Option<(&'static str, &'static str, &'static str)> {
    COUNTRIES.iter().copied().find(|(letters, _, _)| letters.eq_ignore_ascii_case(region))
}

pub(super) fn read(text: &str, region: Option<&str>) -> Ruling {
    let lower = text.trim().to_lowercase();
    let bare = lower.trim_start_matches("tel").trim_start_matches("phone").trim_start_matches("fon");
    let bare = bare.trim_start_matches(['.', ':', ' ']);
    // An extension is another number.
    let (number, extension) = ["ext.", "ext", " x", "durchwahl"]
        .into_iter()
        .find_map(|mark| bare.split_once(mark))
        .map_or((bare, None), |(number, rest)| (number, Some(rest.trim())));
    let allowed =
        |c: char| c.is_ascii_digit() || c.is_whitespace() || matches!(c, '+' | '-' | '–' | '/' | '.' | '(' | ')');
    if number.is_empty()
        || !number.chars().all(allowed)
        || extension.is_some_and(|rest| !rest.bytes().all(|b| b.is_ascii_digit()))
    {
        return Ruling::Unread;
    }
    let abroad = number.trim_start().starts_with('+') || number.trim_start().starts_with("(+");
    if number.matches('+').count() > usize::from(abroad) {
        return Ruling::Unread;
    }
    // `+49 (0)30`: the zero is for callers at home.
    let number = if abroad { number.replace("(0)", "") } else { number.to_owned() };
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let full = if abroad {
        digits
    } else if let Some(rest) = digits.strip_prefix("00") {
        rest.to_owned()
    } else {
        let Some((_, code, trunk)) = region.and_then(country) else {
            return Ruling::Undecided("the number has no country: say which (`region`)".into());
        };
        // In North America the 1 is the country's own as well as what stands before a number at home.
        let own =
            if code == "1" && digits.len() == 10 { &digits } else { digits.strip_prefix(trunk).unwrap_or(&digits) };
        format!("{code}{own}")
    };
    if !(DIGITS_MIN..=DIGITS_MAX).contains(&full.len()) || full.starts_with('0') {
        return Ruling::Undecided(format!("{} digits are no telephone number", full.len()));
    }
    let mut fields = Vec::new();
    if let Some((_, code, _)) = COUNTRIES.iter().find(|(_, code, _)| full.starts_with(code)) {
        fields.push(("country_code", (*code).to_owned()));
    }
    if let Some(extension) = extension {
        fields.push(("extension", extension.to_owned()));
    }
    Ruling::Is(Found { value: format!("+{full}"), fields, note: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, region: &str) -> Option<String> {
        match read(text, (!region.is_empty()).then_some(region)) {
            Ruling::Is(found) => Some(found.value),
            Ruling::Undecided(_) | Ruling::Unread => None,
        }
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, region, expected) in [
            ("+49 30 123456", "", "+4930123456"),
            ("+49 (0)30 / 123 456", "US", "+4930123456"),
            ("0049-30-123456", "", "+4930123456"),
            ("030 123456", "DE", "+4930123456"),
            ("(212) 555-0123", "US", "+12125550123"),
            ("1-212-555-0123", "US", "+12125550123"),
            ("020 7946 0018", "GB", "+442079460018"),
            ("06 12 34 56 78", "FR", "+33612345678"),
            ("06 1234 5678", "IT", "+390612345678"),
            ("Tel.: +1 212 555 0123 ext. 12", "", "+12125550123"),
        ] {
            assert_eq!(value(text, region).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_has_no_country_or_no_number_is_none() {
        for (text, region) in [("030 123456", ""), ("112", "DE"), ("call me", "DE"), ("+1 2 +3", ""), ("", "DE")] {
            assert_eq!(value(text, region), None, "{text}");
        }
        assert!(matches!(read("030 123456", None), Ruling::Undecided(_)));
        assert!(calling_code("de").is_some() && calling_code("Germany").is_none());
    }
}
