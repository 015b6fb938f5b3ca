//! Units as types, so that a byte is never added to a token.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A count of bytes; prints itself in IEC units (KiB, MiB, GiB).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A count of model tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u32);

/// A span of wall time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 {
            write!(f, "{} B", self.0)
        } else if value < 10.0 {
            write!(f, "{value:.1} {}", UNITS[unit])
        } else {
            write!(f, "{value:.0} {}", UNITS[unit])
        }
    }
}

/// A size as a person writes it: `6 GiB`, `6.5G`, `800 MB`, or bytes without a unit. `K`, `M`, `G` and `T` alone
/// mean the powers of 1024, as memory is counted.
impl std::str::FromStr for Bytes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (base, powers) = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => (1024_f64, 0),
            "k" | "kib" => (1024.0, 1),
            "m" | "mib" => (1024.0, 2),
            "g" | "gib" => (1024.0, 3),
            "t" | "tib" => (1024.0, 4),
            "kb" => (1000.0, 1),
            "mb" => (1000.0, 2),
            "gb" => (1000.0, 3),
            "tb" => (1000.0, 4),
            _ => return Err(()),
        };
        let number: f64 = number.parse().map_err(|_| ())?;
        // A cast from a float saturates.
        Ok(Self((number * base.powi(powers)) as u64))
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 { write!(f, "{} ms", self.0) } else { write!(f, "{:.1} s", self.0 as f64 / 1_000.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("6 GiB", 6 << 30),
            ("6g", 6 << 30),
            (" 1.5GiB ", 3 << 29),
            ("800 MB", 800_000_000),
            ("2tb", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "6 apples", "-1 GiB", "1.2.3 G", "80 %", "1e3"] {
            assert_eq!(text.parse::<Bytes>(), Err(()), "{text}");
        }
    }

    #[test]
    fn bytes_print_in_iec_units() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (98_362_432, "94 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
