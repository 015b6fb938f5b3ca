//! English in another tone or shorter by rules: what stands in where a model's words lose what was said. Pure.

use super::{Extent, Tone};

/// Words and phrases in small letters, and what stands for them. `%` is no word at all.
type Table = [(&'static str, &'static str)];

const FORMAL: &Table = &[
    ("gonna", "going to"),
    ("wanna", "want to"),
    ("gotta", "have to"),
    ("gimme", "please give me"),
    ("lemme", "let me"),
    ("dunno", "do not know"),
    ("kinda", "somewhat"),
    ("pls", "please"),
    ("plz", "please"),
    ("thx", "thank you"),
    ("thanks", "thank you"),
    ("u guys", "you"),
    ("you guys", "you"),
    ("u", "you"),
    ("ur", "your"),
    ("cuz", "because"),
    ("cause they", "because they"),
    ("cause i", "because I"),
    ("cause we", "because we"),
    ("cause it", "because it"),
    ("asap", "as soon as possible"),
    ("hey", "hello"),
    ("hi there", "hello"),
    ("hi", "hello"),
    ("yeah", "yes"),
    ("yep", "yes"),
    ("nope", "no"),
    ("kids", "children"),
    ("mate", "%"),
    ("dude", "%"),
    ("a lot of", "many"),
    ("can't", "cannot"),
    ("cant", "cannot"),
    ("won't", "will not"),
    ("don't", "do not"),
    ("dont", "do not"),
    ("doesn't", "does not"),
    ("didn't", "did not"),
    ("isn't", "is not"),
    ("aren't", "are not"),
    ("wasn't", "was not"),
    ("weren't", "were not"),
    ("hasn't", "has not"),
    ("haven't", "have not"),
    ("couldn't", "could not"),
    ("wouldn't", "would not"),
    ("shouldn't", "should not"),
    ("i'm", "I am"),
    ("i've", "I have"),
    ("i'll", "I will"),
    ("i'd", "I would"),
    ("it's", "it is"),
    ("that's", "that is"),
    ("there's", "there is"),
    ("what's", "what is"),
    ("whats", "what is"),
    ("let's", "let us"),
    ("we're", "we are"),
    ("you're", "you are"),
    ("they're", "they are"),
    ("we've", "we have"),
    ("you've", "you have"),
    ("they've", "they have"),
    ("we'll", "we will"),
    ("you'll", "you will"),
    ("they'll", "they will"),
];
const CASUAL: &Table = &[
    ("kindly be advised that", "just so you know,"),
    ("please be advised that", "just so you know,"),
    ("please be informed that", "just so you know,"),
    ("we hereby inform you that", "just so you know,"),
    ("hereby", "%"),
    ("kindly", "please"),
    ("requests the reimbursement of", "would like to have back"),
    ("requests", "asks for"),
    ("prior to", "before"),
    ("regarding", "about"),
    ("concerning", "about"),
    ("in order to", "to"),
    ("therefore", "so"),
    ("however", "but"),
    ("purchase", "buy"),
    ("purchased", "bought"),
    ("require", "need"),
    ("requires", "needs"),
    ("assist", "help"),
    ("assistance", "help"),
    ("commence", "start"),
    ("commences", "starts"),
    ("inform", "tell"),
    ("has been received", "has come in"),
    ("prohibited", "not allowed"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("did not", "didn't"),
    ("cannot", "can't"),
    ("will not", "won't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("we are", "we're"),
    ("i am", "I'm"),
    ("it is", "it's"),
    ("you are", "you're"),
    ("they are", "they're"),
    ("we will", "we'll"),
    ("you will", "you'll"),
    ("i will", "I'll"),
];
const SHORTER: &Table = &[
    ("in order to be able to", "to"),
    ("in order to", "to"),
    ("due to the fact that", "because"),
    ("owing to the fact that", "because"),
    ("in view of the fact that", "because"),
    ("in spite of the fact that", "although"),
    ("despite the fact that", "although"),
    ("at this point in time", "now"),
    ("at the present time", "now"),
    ("at that point in time", "then"),
    ("in the event that it should happen to", "if it should"),
    ("in the event that", "if"),
    ("it is very important to note that", "%"),
    ("it is important to note that", "%"),
    ("it should be noted that", "%"),
    ("please note that", "%"),
    ("i am writing this email to you in order to inform you that", "%"),
    ("i am writing to inform you that", "%"),
    ("we would like to inform you that", "%"),
    ("i would like to inform you that", "%"),
    ("we would like to ask", "we ask"),
    ("i would like to ask", "I ask"),
    ("be so kind as to", "%"),
    ("for the purpose of", "for"),
    ("by means of", "with"),
    ("with regard to", "about"),
    ("with respect to", "about"),
    ("in the near future", "soon"),
    ("a large number of", "many"),
    ("a small number of", "few"),
    ("the majority of", "most"),
    ("has the ability to", "can"),
    ("have the ability to", "can"),
    ("is able to", "can"),
    ("are able to", "can"),
    ("on a regular basis", "regularly"),
    ("on a daily basis", "daily"),
    ("until such time as", "until"),
    ("it is necessary that all participants", "all participants must"),
    ("in advance by", "by"),
    (", in that case,", "%"),
    ("as a matter of fact", "%"),
    ("very", "%"),
    ("really", "%"),
    ("basically", "%"),
    ("actually", "%"),
    ("quite", "%"),
];

/// The text in other words; `None` where no rule says anything, or nothing was wished for that rules know.
pub(super) fn reworded(text: &str, tone: Tone, length: Extent) -> Option<String> {
    let mut tables: Vec<&Table> = Vec::new();
    match tone {
        Tone::AsIs => {}
        Tone::MoreFormal => tables.push(FORMAL),
        Tone::MoreCasual => tables.push(CASUAL),
    }
    if length == Extent::Shorter {
        tables.push(SHORTER);
    }
    let made = tables.iter().fold(text.to_owned(), |text, table| replaced(&text, table));
    let made = tidied(&made);
    (made != text && !made.is_empty()).then_some(made)
}

/// Each phrase of the table where it stands as whole words; the longest were named first.
fn replaced(text: &str, table: &Table) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        let found =
            (!inside).then(|| table.iter().find_map(|(from, to)| behind(rest, from).map(|end| (end, *to)))).flatten();
        match found {
            Some((end, to)) => {
                if to == "%" {
                    let blank = rest[end..].len() - rest[end..].trim_start_matches([' ', ',']).len();
                    rest = &rest[end + blank..];
                } else {
                    let capital = c.is_uppercase();
                    let mut letters = to.chars();
                    let first = letters.next().filter(|_| capital).into_iter().flat_map(char::to_uppercase);
                    made.extend(first);
                    made.push_str(if capital { letters.as_str() } else { to });
                    rest = &rest[end..];
                }
                inside = false;
            }
            None => {
                made.push(c);
                inside = c.is_alphanumeric() || matches!(c, '\'' | '’');
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    made
}

/// Where the phrase ends, if the text begins with it as whole words.
fn behind(text: &str, phrase: &str) -> Option<usize> {
    let mut end = 0;
    let mut letters = text.char_indices();
    for wanted in phrase.chars() {
        let (at, c) = letters.next()?;
        let c = if c == '’' { '\'' } else { c };
        if !c.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
        end = at + text[at..].chars().next().map_or(1, char::len_utf8);
    }
    let next = text[end..].chars().next();
    let goes_on = next.is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’')) && !phrase.ends_with(',');
    (!goes_on).then_some(end)
}

/// A capital at the beginning, no doubled blanks, none before a mark.
fn tidied(text: &str) -> String {
    let mut made = text.replace(" ,", ",").replace(" .", ".").replace(" ?", "?").replace(" !", "!");
    while made.contains("  ") {
        made = made.replace("  ", " ");
    }
    let made = made.trim();
    let mut letters = made.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_know_some_tones_and_some_long_ways_to_say_it() {
        let of = |text: &str, tone, length| reworded(text, tone, length);
        for (text, tone, length, expected) in [
            (
                "hey, can't come cause they dont pay",
                Tone::MoreFormal,
                Extent::AsIs,
                Some("Hello, cannot come because they do not pay"),
            ),
            ("We are unable; kindly wait.", Tone::MoreCasual, Extent::AsIs, Some("We're unable; please wait.")),
            (
                "Due to the fact that the lift is out of order at this point in time, please walk.",
                Tone::AsIs,
                Extent::Shorter,
                Some("Because the lift is out of order now, please walk."),
            ),
            ("It is important to note that rain falls.", Tone::AsIs, Extent::Shorter, Some("Rain falls.")),
            ("The uranium is here.", Tone::MoreFormal, Extent::AsIs, None),
            ("Anything.", Tone::AsIs, Extent::Longer, None),
        ] {
            assert_eq!(of(text, tone, length).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(u|hi|very|in order to|[a-c ,.’ü]){0,12}") {
            let _ = reworded(&text, Tone::MoreFormal, Extent::Shorter);
        }
    }
}
