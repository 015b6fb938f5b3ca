//! Quantities in the units of the SI: `1.8034 m`.

use super::{Found, Ruling, amount::number};

/// Names of a unit, the SI's own unit for it, and by what to multiply.
const UNITS: [(&[&str], &str, f64); 43] = [
    (&["m", "meter", "meters", "metre", "metres"], "m", 1.0),
    (&["km", "kilometer", "kilometers", "kilometre", "kilometres"], "m", 1000.0),
    (&["cm", "centimeter", "centimeters", "centimetre", "zentimeter"], "m", 0.01),
    (&["mm", "millimeter", "millimeters", "millimetre"], "m", 0.001),
    (&["in", "inch", "inches", "\"", "″", "zoll"], "m", 0.0254),
    (&["ft", "foot", "feet", "'", "′"], "m", 0.3048),
    (&["yd", "yard", "yards"], "m", 0.9144),
    (&["mi", "mile", "miles", "meile", "meilen"], "m", 1609.344),
    (&["nmi", "nautical mile", "nautical miles"], "m", 1852.0),
    (&["kg", "kilo", "kilos", "kilogram", "kilograms", "kilogramm"], "kg", 1.0),
    (&["g", "gram", "grams", "gramm"], "kg", 0.001),
    (&["mg", "milligram", "milligrams"], "kg", 0.000_001),
    (&["t", "tonne", "tonnes", "metric ton", "metric tons"], "kg", 1000.0),
    (&["lb", "lbs", "pound", "pounds"], "kg", 0.453_592_37),
    (&["oz", "ounce", "ounces"], "kg", 0.028_349_523_125),
    (&["st", "stone"], "kg", 6.350_293_18),
    (&["s", "sec", "second", "seconds", "sekunden"], "s", 1.0),
    (&["ms", "millisecond", "milliseconds"], "s", 0.001),
    (&["min", "mins", "minute", "minutes", "minuten"], "s", 60.0),
    (&["h", "hr", "hrs", "hour", "hours", "std", "stunden"], "s", 3600.0),
    (&["d", "day", "days", "tage"], "s", 86_400.0),
    (&["week", "weeks", "wochen"], "s", 604_800.0),
    (&["m2", "m²", "sqm", "square meters", "square metres", "qm"], "m2", 1.0),
    (&["km2", "km²"], "m2", 1_000_000.0),
    (&["ha", "hectare", "hectares", "hektar"], "m2", 10_000.0),
    (&["acre", "acres", "ac"], "m2", 4_046.856_422_4),
    (&["sq ft", "sqft", "square feet", "ft2", "ft²"], "m2", 0.092_903_04),
    (&["m3", "m³", "cubic meters", "cubic metres"], "m3", 1.0),
    (&["l", "liter", "liters", "litre", "litres"], "m3", 0.001),
    (&["ml", "milliliter", "milliliters", "millilitre"], "m3", 0.000_001),
    (&["cl"], "m3", 0.000_01),
    (&["gal", "gallon", "gallons", "us gallon", "us gallons"], "m3", 0.003_785_411_784),
    (&["m/s"], "m/s", 1.0),
    (&["km/h", "kmh", "kph"], "m/s", 1.0 / 3.6),
    (&["mph", "miles per hour"], "m/s", 0.447_04),
    (&["kn", "knot", "knots"], "m/s", 1852.0 / 3600.0),
    (&["n", "newton"], "N", 1.0),
    (&["w", "watt", "watts"], "W", 1.0),
    (&["kw", "kilowatt"], "W", 1000.0),
    (&["j", "joule", "joules"], "J", 1.0),
    (&["kwh"], "J", 3_600_000.0),
    (&["pa"], "Pa", 1.0),
    (&["bar"], "Pa", 100_000.0),
];

pub(super) fn read(text: &str) -> Ruling {
    let lower = text.trim().to_lowercase().replace('\u{a0}', " ");
    if let Some(kelvin) = temperature(&lower) {
        return found(kelvin, "K");
    }
    let mut sum = 0.0;
    let mut of: Option<&str> = None;
    let mut rest = lower.as_str();
    let mut last = f64::INFINITY;
    // `5 ft 11 in`, `1 h 30 min`: larger before smaller, of one kind.
    while !rest.is_empty() {
        let Some((value, after)) = leading_number(rest) else { return Ruling::Unread };
        let (name, next) = split_name(after);
        let Some((_, si, factor)) = UNITS.iter().find(|(names, _, _)| names.contains(&name)) else {
            return Ruling::Unread;
        };
        if of.is_some_and(|of| of != *si) || *factor >= last {
            return Ruling::Unread;
        }
        (of, last) = (Some(*si), *factor);
        sum += value * factor;
        rest = next;
    }
    of.map_or(Ruling::Unread, |si| found(sum, si))
}

/// The unit behind a number, and what follows it. Digits may belong to it (`ft2`) or begin the next number.
fn split_name(after: &str) -> (&str, &str) {
    let word_end = after.find(char::is_whitespace).unwrap_or(after.len());
    let word = after[..word_end].trim();
    if UNITS.iter().any(|(names, _, _)| names.contains(&word))
        && !after[word_end..].trim_start().starts_with(char::is_alphabetic)
    {
        return (word, after[word_end..].trim_start());
    }
    let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
    (after[..end].trim(), &after[end..])
}

fn leading_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start().trim_start_matches("and ").trim_start();
    let negative = text.starts_with(['-', '−']);
    let text = text.trim_start_matches(['-', '−']).trim_start();
    let mut end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(text.len());
    while end > 0 && !text[..end].ends_with(|c: char| c.is_ascii_digit()) {
        end -= 1;
    }
    let value = number(&text[..end])?;
    Some((if negative { -value } else { value }, text[end..].trim_start()))
}

fn temperature(text: &str) -> Option<f64> {
    let (value, unit) = leading_number(text)?;
    match unit.trim().replace("degrees ", "°").replace(' ', "").as_str() {
        "°c" | "c" | "celsius" | "°celsius" => Some(value + 273.15),
        "°f" | "f" | "fahrenheit" | "°fahrenheit" => Some((value - 32.0) / 1.8 + 273.15),
        "k" | "kelvin" => Some(value),
        _ => None,
    }
}

fn found(value: f64, unit: &'static str) -> Ruling {
    // Twelve digits are more than any of these factors has; beyond them a float only shows its own noise.
    let digits = 12_usize.saturating_sub(value.abs().log10().floor().max(0.0) as usize);
    let mut text = format!("{value:.digits$}");
    if text.contains('.') {
        text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    Ruling::Is(Found {
        value: format!("{text} {unit}"),
        fields: vec![("number", text), ("unit", unit.to_owned())],
        note: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        for (text, expected) in [
            ("5 ft 11 in", Some("1.8034 m")),
            ("5'11\"", Some("1.8034 m")),
            ("12 km", Some("12000 m")),
            ("1,5 l", Some("0.0015 m3")),
            ("72 °F", Some("295.3722222222 K")),
            ("-40 C", Some("233.15 K")),
            ("1 h 30 min", Some("5400 s")),
            ("60 mph", Some("26.8224 m/s")),
            ("3 kWh", Some("10800000 J")),
            ("100 ft2", Some("9.290304 m2")),
            ("150 lbs", Some("68.0388555 kg")),
            ("12 parsecs", None),
            ("about ten metres", None),
            ("3 m 2 kg", None),
            ("", None),
        ] {
            let value = match read(text) {
                Ruling::Is(found) => Some(found.value),
                Ruling::Undecided(_) | Ruling::Unread => None,
            };
            assert_eq!(value.as_deref(), expected, "{text}");
        }
    }
}
