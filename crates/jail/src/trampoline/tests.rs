use super::{SEPARATOR, WORD, args, parse};
use crate::{Filter, JailError, Rules};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn paths() -> impl Strategy<Value = Vec<PathBuf>> {
    vec("\\PC{0,40}".prop_map(PathBuf::from), 0..6)
}

fn rules() -> impl Strategy<Value = Rules> {
    let filter = prop_oneof![
        Just(Filter::None),
        Just(Filter::WorkerCpu),
        Just(Filter::WorkerGpu),
        Just(Filter::Extract),
        Just(Filter::Recognise)
    ];
    (paths(), paths(), paths(), filter).prop_map(|(read, write, execute, filter)| Rules {
        read,
        write,
        execute,
        filter,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// What the parent says is what the child hears, whatever the paths are called.
    #[test]
    fn rules_arrive_as_they_were_sent(rules in rules(), target in "/\\PC{1,30}") {
        let args = args(&rules, Path::new(&target)).unwrap();
        prop_assert_eq!(&args[0], WORD);
        prop_assert_eq!(parse(&args[1]), Ok(rules));
        prop_assert_eq!(&args[2], SEPARATOR);
        prop_assert_eq!(&args[3], &OsString::from(target));
    }

    /// Rules that were cut or garbled are never taken for others: they are refused.
    #[test]
    fn cut_rules_are_refused(rules in rules(), at in any::<proptest::sample::Index>()) {
        let text = serde_json::to_string(&rules).unwrap();
        let mut cut = at.index(text.len());
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        assert!(parse(&OsString::from(&text[..cut])).is_err());
    }

    #[test]
    fn any_text_is_refused_or_rules(text in "\\PC{0,200}") {
        if let Ok(rules) = parse(&OsString::from(&text)) {
            prop_assert_eq!(parse(&args(&rules, Path::new("/a")).unwrap()[1]), Ok(rules));
        }
    }

    #[test]
    fn any_json_like_text_is_refused_or_rules(
        words in vec(
            prop_oneof!["\"read\"", "\"write\"", "\"filter\"", "\"none\"", "\\[", "\\]", "\\{", "\\}", ":", ",", "null", "-1e9", "\"/\""],
            0..40,
        )
    ) {
        let _ = parse(&OsString::from(words.concat()));
    }
}

/// A field more, a field less or a word that isn't known could mean less confinement than was meant.
#[test]
fn rules_with_a_slip_are_refused() {
    let good = r#"{"read":[],"write":[],"execute":[],"filter":"none"}"#;
    assert_eq!(parse(&OsString::from(good)), Ok(Rules::default()));
    for (from, to) in [
        ("\"execute\":[],", ""),
        ("\"filter\":\"none\"", "\"filter\":\"all\""),
        ("\"filter\":\"none\"", "\"filter\":\"none\",\"filter\":\"none\""),
        ("\"write\":[]", "\"write\":\"/\""),
        ("\"write\":[]", "\"write\":[],\"wirte\":[]"),
        ("}", "} {}"),
    ] {
        let slip = good.replace(from, to);
        assert!(parse(&OsString::from(&slip)).is_err(), "{slip}");
    }
}

/// Paths that aren't text can't be said in JSON; they must not be left out silently.
#[test]
#[cfg(unix)]
fn a_path_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let odd = PathBuf::from(OsString::from_vec(vec![b'/', 0xff, 0xfe]));
    let rules = Rules::default().and_read(&odd);
    assert!(matches!(args(&rules, Path::new("/bin/true")), Err(JailError::RulesText(_))));
    assert!(parse(&OsString::from_vec(vec![b'{', 0xff])).is_err());
}
