//! What tesseract says (TSV) to paragraphs of words with their rectangles. Pure.
//!
//! Twelve columns: level, page, block, paragraph, line, word, left, top, width, height, confidence, text. Level 5 is a
//! word. Rectangles are pixels from the picture's upper left corner.

/// LIMIT: words of one picture.
const WORDS_MAX: usize = 1 << 17;
/// A paragraph whose letters are recognised with less certainty, on average, is noise more often than text.
pub(crate) const CONFIDENCE_MIN: f64 = 60.0;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// Left, top, right, bottom.
    pub(crate) area: [u32; 4],
    /// 0 to 100.
    confidence: f64,
}

/// Words that belong together, in the order of reading.
pub(crate) type Paragraph = Vec<Word>;

/// What was recognised on one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recognised {
    /// Those that are certain enough to be kept.
    pub(crate) paragraphs: Vec<Paragraph>,
    /// Paragraphs that aren't.
    pub(crate) unclear: usize,
    /// Mean over all letters, the unclear ones too; `None` without a letter.
    pub(crate) confidence: Option<f64>,
}

/// Reads what tesseract wrote.
///
/// # Errors
/// A sentence part about the first line that isn't what it should be.
pub(crate) fn parse(bytes: &[u8]) -> Result<Recognised, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "its answer isn't UTF-8")?;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|head| head.starts_with("level\tpage_num\t")) {
        return Err("its answer isn't a table of words");
    }
    let (mut paragraphs, mut last, mut words) = (Vec::<Paragraph>::new(), None, 0);
    for line in lines.filter(|line| !line.is_empty()) {
        let Some((place, word)) = row(line)? else { continue };
        words += 1;
        if words > WORDS_MAX {
            return Err("it finds words without end");
        }
        match paragraphs.last_mut() {
            Some(paragraph) if last == Some(place) => paragraph.push(word),
            _ => paragraphs.push(vec![word]),
        }
        last = Some(place);
    }
    Ok(judged(paragraphs))
}

/// A word with its block and paragraph; `None` for other rows and for words without a letter.
fn row(line: &str) -> Result<Option<([u32; 2], Word)>, &'static str> {
    const WRONG: &str = "a line of its answer isn't one of a table of words";
    let mut cells = line.splitn(12, '\t');
    let mut cell = || cells.next().ok_or(WRONG);
    let mut numbers = [0u32; 10];
    for number in &mut numbers {
        *number = cell()?.parse().map_err(|_| WRONG)?;
    }
    let confidence: f64 = cell()?.parse().map_err(|_| WRONG)?;
    let [level, _page, block, paragraph, _line, _word, left, top, width, height] = numbers;
    const WORD: u32 = 5;
    if level != WORD {
        return Ok(None);
    }
    // What could steer a terminal is no letter.
    let text: String = cell()?.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    if text.is_empty() || !confidence.is_finite() || confidence < 0.0 {
        return Ok(None);
    }
    let area = [left, top, left.saturating_add(width), top.saturating_add(height)];
    let word = Word { text: text.to_owned(), area, confidence: confidence.min(100.0) };
    Ok(Some(([block, paragraph], word)))
}

fn judged(paragraphs: Vec<Paragraph>) -> Recognised {
    let confidence = mean(paragraphs.iter().flatten());
    let all = paragraphs.len();
    let clear = |paragraph: &Paragraph| mean(paragraph.iter()).is_some_and(|mean| mean >= CONFIDENCE_MIN);
    let kept: Vec<Paragraph> = paragraphs.into_iter().filter(clear).collect();
    Recognised { unclear: all - kept.len(), paragraphs: kept, confidence }
}

/// Long words weigh more: noise is made of short ones.
fn mean<'a>(words: impl Iterator<Item = &'a Word>) -> Option<f64> {
    let (sum, letters) = words.fold((0.0, 0.0), |(sum, letters), word| {
        let count = word.text.chars().count() as f64;
        (sum + word.confidence * count, letters + count)
    });
    (letters > 0.0).then(|| sum / letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n";

    fn words(paragraph: &[Word]) -> Vec<&str> {
        paragraph.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn words_come_in_paragraphs_with_their_rectangles() {
        let table = format!(
            "{HEAD}1\t1\t0\t0\t0\t0\t0\t0\t800\t600\t-1\t\n\
             4\t1\t1\t1\t1\t0\t10\t20\t300\t30\t-1\t\n\
             5\t1\t1\t1\t1\t1\t10\t20\t50\t30\t96.5\tThe\n\
             5\t1\t1\t1\t1\t2\t70\t20\t90\t30\t91\tboiler\n\
             5\t1\t1\t1\t2\t1\t10\t60\t90\t30\t95\t \n\
             5\t1\t1\t1\t2\t2\t10\t60\t90\t30\t95\thums\u{1b}.\n\
             5\t1\t1\t2\t1\t1\t10\t99\t90\t30\t93\tTwice\n\
             5\t1\t2\t1\t1\t1\t10\t300\t90\t30\t12\t|~.\n"
        );
        let found = parse(table.as_bytes()).expect("it is a table");
        assert_eq!(
            found.paragraphs.iter().map(|words_of| words(words_of)).collect::<Vec<_>>(),
            [vec!["The", "boiler", "hums."], vec!["Twice"]]
        );
        assert_eq!(found.paragraphs[0][1].area, [70, 20, 160, 50]);
        assert_eq!(found.unclear, 1, "noise is left out and counted");
        assert!(found.confidence.is_some_and(|mean| mean > 70.0 && mean < 90.0), "{found:?}");
        assert_eq!(parse(HEAD.as_bytes()), Ok(Recognised::default()));
    }

    #[test]
    fn what_is_no_table_of_words_is_refused() {
        for text in
            ["", "no table", "Error opening data file", "level\tpage_num\tx\n5\t1\t1\n", "level\tpage_num\tx\n5\tone\t"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"level\tpage_num\t\n\xff").is_err());
        let word = "5\t1\t1\t1\t1\t1\t0\t0\t1\t1\t90\tx\n";
        assert!(parse(format!("{HEAD}{}", word.repeat(WORDS_MAX)).as_bytes()).is_ok());
        assert!(parse(format!("{HEAD}{}", word.repeat(WORDS_MAX + 1)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_refused_or_in_order(rows in prop::collection::vec("[0-9\t.a-z-]{0,40}", 0..20)) {
            if let Ok(found) = parse(format!("{HEAD}{}", rows.join("\n")).as_bytes()) {
                for word in found.paragraphs.iter().flatten() {
                    prop_assert!(word.area[0] <= word.area[2] && word.area[1] <= word.area[3]);
                    prop_assert!(!word.text.trim().is_empty());
                }
            }
        }
    }
}
