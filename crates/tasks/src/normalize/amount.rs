//! Numbers and amounts of money: `1234.50 EUR`.

use super::{Found, Ruling};

/// Signs and words for currencies, by their ISO 4217 codes. A bare `$` may be another dollar: that is noted.
const CURRENCIES: [(&str, &str); 34] = [
    ("€", "EUR"),
    ("euro", "EUR"),
    ("euros", "EUR"),
    ("us$", "USD"),
    ("$", "USD"),
    ("dollar", "USD"),
    ("dollars", "USD"),
    ("£", "GBP"),
    ("pound", "GBP"),
    ("pounds", "GBP"),
    ("¥", "JPY"),
    ("円", "JPY"),
    ("yen", "JPY"),
    ("fr.", "CHF"),
    ("sfr", "CHF"),
    ("franken", "CHF"),
    ("₹", "INR"),
    ("rs.", "INR"),
    ("rs", "INR"),
    ("rupees", "INR"),
    ("₩", "KRW"),
    ("₽", "RUB"),
    ("₺", "TRY"),
    ("₪", "ILS"),
    ("zł", "PLN"),
    ("kč", "CZK"),
    ("ft", "HUF"),
    ("r$", "BRL"),
    ("c$", "CAD"),
    ("ca$", "CAD"),
    ("a$", "AUD"),
    ("nz$", "NZD"),
    ("hk$", "HKD"),
    ("元", "CNY"),
];

const CODES: [&str; 32] = [
    "EUR", "USD", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY", "INR", "KRW", "RUB", "TRY", "ILS", "PLN", "CZK",
    "HUF", "BRL", "HKD", "SGD", "SEK", "NOK", "DKK", "MXN", "ZAR", "THB", "IDR", "RON", "BGN", "UAH", "AED", "SAR",
];

const SCALES: [(&str, i32); 14] = [
    ("k", 3),
    ("thousand", 3),
    ("tsd", 3),
    ("tsd.", 3),
    ("tausend", 3),
    ("m", 6),
    ("mio", 6),
    ("mio.", 6),
    ("million", 6),
    ("millionen", 6),
    ("bn", 9),
    ("billion", 9),
    ("mrd", 9),
    ("mrd.", 9),
];

/// A number in digits, with marks between groups of three and for the fraction. Exact: digits are never rounded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    digits: String,
    fraction: String,
    /// A single mark before three digits was taken for one between groups.
    assumed: bool,
}

fn decimal(text: &str) -> Option<Decimal> {
    let text = text.trim().trim_end_matches(".-").trim_end_matches(",-");
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let marks: Vec<(usize, char)> = text.char_indices().filter(|(_, c)| !c.is_ascii_digit()).collect();
    if marks.iter().any(|(_, c)| !matches!(c, '.' | ',' | '\'' | '’' | ' ' | '\u{a0}' | '\u{202f}' | '_')) {
        return None;
    }
    let plain = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let whole = |digits: String, assumed| Some(Decimal { digits, fraction: String::new(), assumed });
    let Some(&(last_at, last)) = marks.last() else { return whole(text.to_owned(), false) };
    let behind = &text[last_at + last.len_utf8()..];
    let same = marks.iter().filter(|(_, c)| *c == last).count();
    let may_be_fraction = matches!(last, '.' | ',') && same == 1;
    let others = marks.len() > same;
    let (head, fraction, assumed) = match (may_be_fraction, behind.len()) {
        (true, 3) if !others && last_at <= 3 && text[..last_at] != *"0" => (text, "", true),
        (true, _) => (&text[..last_at], behind, false),
        (false, _) => (text, "", false),
    };
    // Groups behind the first have three digits, or the number is something else; India's have two as well.
    let groups: Vec<&str> = head.split(|c: char| !c.is_ascii_digit()).collect();
    let well_grouped = groups.len() == 1
        || (groups[0].len() <= 3
            && !groups[0].is_empty()
            && groups[1..groups.len() - 1].iter().all(|group| (2..=3).contains(&group.len()))
            && groups.last().is_some_and(|group| group.len() == 3));
    well_grouped.then(|| Decimal { digits: plain(head), fraction: fraction.to_owned(), assumed })
}

impl Decimal {
    /// Times a power of ten, by moving the mark.
    fn scaled(mut self, power: usize) -> Self {
        for _ in 0..power {
            let next = if self.fraction.is_empty() { '0' } else { self.fraction.remove(0) };
            self.digits.push(next);
        }
        self
    }

    fn text(&self) -> String {
        let digits = self.digits.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        if self.fraction.is_empty() { digits.to_owned() } else { format!("{digits}.{}", self.fraction) }
    }
}

/// As a number, for comparing.
pub(crate) fn number(text: &str) -> Option<f64> {
    decimal(text)?.text().parse().ok()
}

pub(super) fn read(text: &str) -> Ruling {
    let mut rest = text.trim().to_lowercase().replace(['\u{a0}', '\u{202f}'], " ");
    let bracketed = rest.matches('(').count() == 1 && rest.matches(')').count() == 1;
    let negative = rest.starts_with(['-', '−']) || bracketed;
    if bracketed {
        rest = rest.replace(['(', ')'], " ");
    }
    rest = rest.trim_matches(|c: char| matches!(c, '-' | '−' | '+') || c.is_whitespace()).to_owned();
    let Some(start) = rest.find(|c: char| c.is_ascii_digit()) else { return Ruling::Unread };
    let end = rest.rfind(|c: char| c.is_ascii_digit()).map_or(start, |at| at + 1);
    let Some(mut value) = decimal(&rest[start..end]) else { return Ruling::Unread };
    let around: Vec<&str> = [&rest[..start], &rest[end..]]
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches([',', '-']))
        .filter(|word| !word.is_empty() && *word != ".")
        .collect();
    let mut currency: Option<(&str, bool)> = None;
    let mut power = 0;
    for word in around {
        let code = CODES.iter().find(|code| code.eq_ignore_ascii_case(word)).map(|code| (*code, false));
        let sign = CURRENCIES.iter().find(|(sign, _)| *sign == word).map(|(sign, code)| (*code, *sign == "$"));
        // `5m€` is written in one.
        let joined = SCALES.iter().find_map(|(scale, power)| {
            let sign = word.strip_prefix(scale)?;
            let (_, code) = CURRENCIES.iter().find(|(own, _)| *own == sign)?;
            Some((*power, *code))
        });
        match (code.or(sign), SCALES.iter().find(|(scale, _)| *scale == word), joined) {
            (Some(found), _, _) if currency.is_none() => currency = Some(found),
            (None, Some((_, by)), _) if power == 0 => power = *by,
            (None, None, Some((by, code))) if power == 0 && currency.is_none() => {
                power = by;
                currency = Some((code, false));
            }
            _ => return Ruling::Unread,
        }
    }
    value = value.scaled(usize::try_from(power).unwrap_or(0));
    let amount = format!("{}{}", if negative { "-" } else { "" }, value.text());
    let mut fields = vec![("amount", amount.clone())];
    let mut notes = Vec::new();
    if value.assumed && power == 0 {
        notes.push("the mark before three digits was read as one between thousands".to_owned());
    }
    let value = match currency {
        Some((code, doubtful)) => {
            fields.push(("currency", code.to_owned()));
            if doubtful {
                notes.push("`$` was read as US dollars".to_owned());
            }
            format!("{amount} {code}")
        }
        None => amount,
    };
    Ruling::Is(Found { value, fields, note: (!notes.is_empty()).then(|| notes.join("; ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Option<String> {
        match read(text) {
            Ruling::Is(found) => Some(found.value),
            Ruling::Undecided(_) | Ruling::Unread => None,
        }
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1.234,56 €", "1234.56 EUR"),
            ("$1,234.56", "1234.56 USD"),
            ("EUR 12", "12 EUR"),
            ("12,5 Mio. €", "12500000 EUR"),
            ("£3.2m", "3200000 GBP"),
            ("1'250.00 CHF", "1250.00 CHF"),
            ("CHF 35.-", "35 CHF"),
            ("(45.10) usd", "-45.10 USD"),
            ("−7 €", "-7 EUR"),
            ("1 234 567,8", "1234567.8"),
            ("₹12,34,567.00", "1234567.00 INR"),
            ("0,999 EUR", "0.999 EUR"),
            ("1,234", "1234"),
            ("007", "7"),
        ] {
            assert_eq!(value(text).as_deref(), Some(expected), "{text}");
        }
        for none in ["", "twelve euros", "12 apples", "1,23,4", "12 EUR USD", "3 to 5 EUR"] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn digits_are_never_changed(whole in 0_u64..10_000_000_000, cents in 0_u32..100) {
            let grouped = |mark: &str| {
                let digits = whole.to_string();
                let first = digits.len() % 3;
                let mut groups: Vec<&str> = Vec::new();
                if first > 0 { groups.push(&digits[..first]); }
                groups.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
                groups.join(mark)
            };
            let expected = format!("{whole}.{cents:02} EUR");
            prop_assert_eq!(value(&format!("{},{cents:02} €", grouped("."))), Some(expected.clone()));
            prop_assert_eq!(value(&format!("EUR {}.{cents:02}", grouped(","))), Some(expected));
        }

        #[test]
        fn any_text_is_taken(text in ".{0,40}") {
            let _ = read(&text);
        }
    }
}
