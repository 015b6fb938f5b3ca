//! Which languages words on pictures are recognised in: as it was set, else English and those of the locale. Pure.

use base::{Code, Fault};
use map::Languages;

/// LIMIT: languages at a time; each makes recognition slower and takes memory.
const LANGUAGES_MAX: usize = 8;

/// Reads the setting `ocr_languages`: names of tesseract's language data, joined by `+`.
///
/// # Errors
/// [`Code::ConfigInvalid`] when it can't be one.
pub(crate) fn set(name: &str, text: &str) -> Result<Languages, Fault> {
    if text.trim() == "none" {
        return Ok(Languages::Off);
    }
    let wanted: Vec<String> = text.split('+').map(|language| language.trim().to_owned()).collect();
    // `chi_sim`, `script/Latin`: what could lead out of the folder of language data, or be an option, is none.
    let plain = |language: &String| {
        language.starts_with(|c: char| c.is_ascii_alphabetic())
            && language.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/'))
    };
    if wanted.len() <= LANGUAGES_MAX && wanted.iter().all(plain) {
        return Ok(Languages::Needed(wanted));
    }
    let message = format!("{name} is `{text}`, which names no languages (up to {LANGUAGES_MAX})");
    Err(Fault::new(Code::ConfigInvalid, message)
        .hint("join names of tesseract's data by `+`: `eng+deu`; `none` switches recognition off")
        .hint("`tesseract --list-langs` shows which are installed"))
}

/// English, and what the locale speaks: `de_AT.UTF-8`, or several of them joined by `:`.
pub(crate) fn of_locale(locale: &str) -> Languages {
    let mut wished = vec!["eng".to_owned()];
    for one in locale.split(':') {
        let language = one.split(['_', '.', '@', '-']).next().unwrap_or_default();
        let found = match (language, one) {
            ("zh", one) if ["TW", "HK", "Hant"].iter().any(|place| one.contains(place)) => Some("chi_tra"),
            _ => DATA.iter().find(|(locale, _)| *locale == language).map(|(_, data)| *data),
        };
        if let Some(data) = found.filter(|data| !wished.iter().any(|wished| wished == data))
            && wished.len() < LANGUAGES_MAX
        {
            wished.push(data.to_owned());
        }
    }
    Languages::Wished(wished)
}

/// For people and for comparing: as it would be set.
pub(crate) fn named(languages: &Languages) -> String {
    match languages {
        Languages::Off => "none".into(),
        Languages::Wished(names) | Languages::Needed(names) => names.join("+"),
    }
}

/// Languages of locales, and the names of tesseract's data for them. `scripts/setup.sh` has the same list.
const DATA: [(&str, &str); 44] = [
    ("af", "afr"),
    ("ar", "ara"),
    ("bg", "bul"),
    ("bn", "ben"),
    ("ca", "cat"),
    ("cs", "ces"),
    ("da", "dan"),
    ("de", "deu"),
    ("el", "ell"),
    ("es", "spa"),
    ("et", "est"),
    ("eu", "eus"),
    ("fa", "fas"),
    ("fi", "fin"),
    ("fr", "fra"),
    ("gl", "glg"),
    ("he", "heb"),
    ("hi", "hin"),
    ("hr", "hrv"),
    ("hu", "hun"),
    ("id", "ind"),
    ("is", "isl"),
    ("it", "ita"),
    ("ja", "jpn"),
    ("ko", "kor"),
    ("lt", "lit"),
    ("lv", "lav"),
    ("nb", "nor"),
    ("nl", "nld"),
    ("nn", "nor"),
    ("no", "nor"),
    ("pl", "pol"),
    ("pt", "por"),
    ("ro", "ron"),
    ("ru", "rus"),
    ("sk", "slk"),
    ("sl", "slv"),
    ("sr", "srp"),
    ("sv", "swe"),
    ("th", "tha"),
    ("tr", "tur"),
    ("uk", "ukr"),
    ("vi", "vie"),
    ("zh", "chi_sim"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_adds_its_languages_to_english() {
        for (locale, expected) in [
            ("", "eng"),
            ("C.UTF-8", "eng"),
            ("en_GB.UTF-8", "eng"),
            ("de_AT.UTF-8", "eng+deu"),
            ("fr:de_DE:en", "eng+fra+deu"),
            ("zh_TW.UTF-8", "eng+chi_tra"),
            ("zh_CN", "eng+chi_sim"),
            ("xx_YY", "eng"),
        ] {
            assert_eq!(named(&of_locale(locale)), expected, "{locale}");
        }
    }

    #[test]
    fn what_is_set_is_needed_and_checked() {
        assert_eq!(set("x", "eng+script/Latin"), Ok(Languages::Needed(vec!["eng".into(), "script/Latin".into()])));
        assert_eq!(set("x", "none"), Ok(Languages::Off));
        for wrong in ["", "eng,deu", "eng+", "../eng", "-l", "/etc/passwd", "a+b+c+d+e+f+g+h+i"] {
            let fault = set("ocr_languages", wrong).expect_err(wrong);
            assert_eq!(fault.code, Code::ConfigInvalid);
            assert!(fault.message.contains("ocr_languages"), "{fault}");
        }
    }

    #[test]
    fn the_set_up_script_knows_the_same_languages() {
        let script = include_str!("../../../scripts/setup.sh");
        for (locale, data) in DATA {
            assert!(script.contains(&format!("{locale}) echo {data} ;;")), "{locale}");
        }
    }
}
