//! Numbers in English words as digits: `twelve hundred` is `1200`, `twenty twenty-five` a year.

/// What a word is worth within a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Below a hundred.
    Small(u64),
    Hundred,
    /// A thousand and more.
    Scale(u64),
}

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const ORDINALS: [&str; 20] = [
    "zeroth",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
];
const SCALES: [(&str, u64); 3] = [("thousand", 1_000), ("million", 1_000_000), ("billion", 1_000_000_000)];

/// Whether `second` is one of them, and two numbers may be a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Day,
    Quantity,
}

fn part(word: &str, of: Of) -> Option<Part> {
    let at = |list: &[&str]| list.iter().position(|own| *own == word).map(|at| at as u64);
    if let Some(small) = at(&SMALL).or_else(|| (of == Of::Day).then(|| at(&ORDINALS)).flatten()) {
        return Some(Part::Small(small));
    }
    if let Some(tens) = at(&TENS) {
        return Some(Part::Small(20 + 10 * tens));
    }
    match word {
        "twentieth" if of == Of::Day => Some(Part::Small(20)),
        "thirtieth" if of == Of::Day => Some(Part::Small(30)),
        "hundred" => Some(Part::Hundred),
        _ => SCALES.iter().find(|(own, _)| *own == word).map(|(_, size)| Part::Scale(*size)),
    }
}

/// The numbers that a run of parts makes: `twenty`, `twenty-five` are two.
fn numbers(parts: &[Part]) -> Option<Vec<u64>> {
    let mut made = Vec::new();
    let (mut sum, mut open, mut any) = (0_u64, 0_u64, false);
    for part in parts {
        match part {
            Part::Small(small) => {
                let fits = (open % 100 == 0) || (open % 10 == 0 && open % 100 >= 20 && *small < 10);
                if any && (!fits || (open == 0 && sum == 0)) {
                    made.push(sum.checked_add(open)?);
                    (sum, open) = (0, 0);
                }
                open += small;
            }
            Part::Hundred => open = open.max(1).checked_mul(100)?,
            Part::Scale(size) => {
                sum = sum.checked_add(open.max(1).checked_mul(*size)?)?;
                open = 0;
            }
        }
        any = true;
    }
    made.push(sum.checked_add(open)?);
    Some(made)
}

/// The text with its numbers in digits; `None` where no words of it are numbers.
pub(super) fn digits(text: &str, of: Of) -> Option<String> {
    let spaced = text.to_lowercase().replace('-', " ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let (mut out, mut run): (Vec<String>, Vec<Part>) = (Vec::new(), Vec::new());
    let mut any = false;
    for (at, token) in tokens.iter().enumerate() {
        let word = token.trim_end_matches([',', '.', ';']);
        let next = tokens.get(at + 1).and_then(|next| part(next.trim_end_matches([',', '.', ';']), of));
        match part(word, of) {
            Some(found) => {
                any = true;
                run.push(found);
                // A mark behind it ends a number.
                if word.len() < token.len() {
                    out.push(joined(&std::mem::take(&mut run), of)? + &token[word.len()..]);
                }
            }
            // `two hundred and five`, `a hundred`.
            None if word == "and" && matches!(run.last(), Some(Part::Hundred | Part::Scale(_))) && next.is_some() => {}
            None if word == "a" && matches!(next, Some(Part::Hundred | Part::Scale(_))) => {}
            None => {
                if !run.is_empty() {
                    out.push(joined(&std::mem::take(&mut run), of)?);
                }
                out.push((*token).to_owned());
            }
        }
    }
    if !run.is_empty() {
        out.push(joined(&run, of)?);
    }
    any.then(|| out.join(" "))
}

fn joined(parts: &[Part], of: Of) -> Option<String> {
    let made = numbers(parts)?;
    let year = |pair: &[u64]| (10..=21).contains(&pair[0]) && (10..100).contains(&pair[1]);
    Some(match made.as_slice() {
        pair @ [century, rest] if of == Of::Day && year(pair) => (century * 100 + rest).to_string(),
        all => all.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
    })
}

/// `50 euros and 20 cents` as `50.20 euros`.
pub(super) fn with_cents(text: &str) -> Option<String> {
    const CENTS: [&str; 7] = ["cent", "cents", "ct", "pence", "centimes", "rappen", "kopeks"];
    let words: Vec<&str> = text.split_whitespace().filter(|word| !matches!(*word, "and" | "und" | "et")).collect();
    let [whole, currency, part, unit] = words.as_slice() else { return None };
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let cents: u64 = part.parse().ok().filter(|cents| *cents < 100)?;
    (plain(whole) && plain(part) && CENTS.contains(&unit.to_lowercase().as_str()))
        .then(|| format!("{whole}.{cents:02} {currency}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_become_digits() {
        for (text, of, expected) in [
            ("twelve hundred euros", Of::Quantity, Some("1200 euros")),
            ("two thousand and five dollars", Of::Quantity, Some("2005 dollars")),
            ("three million two hundred thousand", Of::Quantity, Some("3200000")),
            ("a hundred pounds", Of::Quantity, Some("100 pounds")),
            ("one hour thirty minutes", Of::Quantity, Some("1 hour 30 minutes")),
            ("one second", Of::Quantity, Some("1 second")),
            ("the twelfth of June, twenty twenty-five", Of::Day, Some("the 12 of june, 2025")),
            ("the twenty-first of May nineteen eighty-four", Of::Day, Some("the 21 of may 1984")),
            ("May the fourth, 2026", Of::Day, Some("may the 4, 2026")),
            ("fifteenth of August two thousand twenty-six", Of::Day, Some("15 of august 2026")),
            ("12 euros", Of::Quantity, None),
            ("some day soon", Of::Day, None),
        ] {
            assert_eq!(digits(text, of).as_deref(), expected, "{text}");
        }
        assert_eq!(with_cents("50 euros and 20 cents").as_deref(), Some("50.20 euros"));
        assert_eq!(with_cents("50 euros and 120 cents"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[a-z ,-]{0,30}|((one|twenty|hundred|billion|and|a|fifth)[ -]){0,9}") {
            let _ = (digits(&text, Of::Day), digits(&text, Of::Quantity), with_cents(&text));
        }
    }
}
