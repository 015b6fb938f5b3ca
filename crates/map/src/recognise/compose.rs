//! What was read and what was recognised, in one document. Pure.

use super::tsv::{CONFIDENCE_MIN, Recognised};
use crate::document::{BlockKind, Document};
use crate::extract::{Builder, Scan};
use crate::source::Encoding;

/// What became of one picture: its words, or a sentence part about why there are none.
pub(super) type Outcome = Result<Recognised, String>;

/// Puts the recognised words between the pages that have text of their own, each word with its rectangle. `None` when
/// it is more text than one document may hold.
pub(super) fn composed(document: &Document, scans: &[(Scan, Outcome)]) -> Option<Document> {
    let mut builder = Builder::new(Encoding::Utf8);
    let mut scans = scans.iter().peekable();
    for block in document.blocks.iter().filter(|block| !block.kind.is_named()) {
        while let Some((scan, outcome)) = scans.next_if(|(scan, _)| scan.page < block.part) {
            add(&mut builder, scan, outcome);
        }
        let end = block.end as usize;
        let mut at = block.start as usize;
        let first = document.spots.partition_point(|spot| (spot.text + spot.text_len) as usize <= at);
        for spot in document.spots[first..].iter().take_while(|spot| (spot.text as usize) < end) {
            let (from, to) = ((spot.text as usize).max(at), (spot.text as usize + spot.text_len as usize).min(end));
            if from < to {
                builder.push_free(&document.text[at..from]);
                let start = builder.at();
                builder.push_free(&document.text[from..to]);
                builder.spot(start, spot.part, spot.area);
                at = to;
            }
        }
        builder.push_free(&document.text[at..end]);
        builder.close(block.kind, block.part);
    }
    scans.for_each(|(scan, outcome)| add(&mut builder, scan, outcome));
    if builder.is_full() {
        return None;
    }
    let mut composed = builder.into_parts(document.format, document.title.clone());
    composed.notes.clone_from(&document.notes);
    Some(composed)
}

fn add(builder: &mut Builder, scan: &Scan, outcome: &Outcome) {
    let Ok(recognised) = outcome else { return };
    for paragraph in &recognised.paragraphs {
        for word in paragraph {
            builder.space();
            let start = builder.at();
            builder.push_free(&word.text);
            builder.spot(start, scan.page, scan.area(word.area));
        }
        builder.close(BlockKind::Text, scan.page);
    }
}

/// What is to be said of each picture of which something is missing, with its page.
pub(super) fn notes(scans: &[(Scan, Outcome)]) -> Vec<String> {
    let note = |(scan, outcome): &(Scan, Outcome)| {
        let page = scan.page;
        match outcome {
            Err(why) => Some(format!("page {page} isn't recognised: {why}")),
            Ok(found) if found.unclear > 0 => {
                let all = found.unclear + found.paragraphs.len();
                Some(format!(
                    "page {page}: {} of {all} paragraphs are too unclear to be read and left out",
                    found.unclear
                ))
            }
            Ok(_) => None,
        }
    };
    scans.iter().filter_map(note).collect()
}

/// Why nothing at all was found, as a part of a sentence.
pub(super) fn nothing(scans: &[(Scan, Outcome)]) -> String {
    let failed = scans.iter().find_map(|(_, outcome)| outcome.as_ref().err());
    let unclear = scans.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()?.confidence).reduce(f64::max);
    match (failed, unclear) {
        (Some(why), _) => format!("its words aren't recognised: {why}"),
        (None, Some(best)) => {
            format!(
                "unreadable picture: its letters are recognised with a certainty of {best:.0} of 100; {CONFIDENCE_MIN} is the least"
            )
        }
        (None, None) => "no words are recognised on it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use crate::place::Spots;
    use crate::recognise::tsv;
    use base::{PageBox, Place};

    const HEAD: &str =
        "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n";

    fn scan(page: u32) -> Scan {
        Scan { page, file: None, frame: 0, size: (200, 100), lies: [100.0, 0.0, 0.0, 50.0, 0.0, 0.0], dpi: None }
    }

    fn found(words: &str, confidence: u32) -> Outcome {
        let row = |(number, word): (usize, &str)| {
            format!("5\t1\t1\t1\t1\t{number}\t{}\t20\t18\t10\t{confidence}\t{word}\n", number * 20)
        };
        let rows: String = words.split(' ').enumerate().map(row).collect();
        Ok(tsv::parse(format!("{HEAD}{rows}").as_bytes()).expect("it is a table"))
    }

    fn written(pages: &[(u32, &str)]) -> Document {
        let mut builder = Builder::new(Encoding::Utf8);
        for (page, words) in pages {
            for word in words.split(' ') {
                builder.space();
                let start = builder.at();
                builder.push_free(word);
                builder.spot(start, *page, [1, 1, 9, 9]);
            }
            builder.close(BlockKind::Text, *page);
        }
        let mut document = builder.into_parts(Format::Pdf, Some("Lease".into()));
        document.notes.push("page 9 isn't recognised: why".into());
        document
    }

    #[test]
    fn recognised_pages_come_between_the_others() {
        let scans = [(scan(1), found("The seal", 90)), (scan(3), found("was broken.", 90)), (scan(4), found("| ~", 9))];
        let document = written(&[(2, "A page of text"), (5, "and another")]);
        let composed = composed(&document, &scans).expect("it isn't too much");
        assert_eq!(composed.check(0), Ok(()));
        let blocks: Vec<_> = composed.blocks.iter().map(|block| (block.part, composed.block_text(block))).collect();
        assert_eq!(blocks, [(1, "The seal"), (2, "A page of text"), (3, "was broken."), (5, "and another")]);
        assert_eq!((composed.title.as_deref(), composed.notes.len()), (Some("Lease"), 1));
        let at = composed.text.find("seal").expect("it is there");
        let spots = Spots::within(&[], &composed.spots, &(at..at + 4), false);
        let seal = PageBox { page: 1, left: 10, top: 10, right: 19, bottom: 15 };
        assert_eq!(spots.pages(&(0..4)), Some(Place::Page { first: 1, last: 1, boxes: vec![seal] }));
        assert_eq!(notes(&scans), ["page 4: 1 of 1 paragraphs are too unclear to be read and left out"]);
    }

    #[test]
    fn nothing_recognised_says_why() {
        assert!(nothing(&[(scan(1), found("| ~", 31))]).contains("31 of 100"));
        assert!(nothing(&[(scan(1), Err("it hung".into())), (scan(2), found("~", 9))]).contains("it hung"));
        assert_eq!(nothing(&[(scan(1), Ok(Recognised::default()))]), "no words are recognised on it");
    }
}
