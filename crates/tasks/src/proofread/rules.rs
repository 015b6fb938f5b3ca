//! Mistakes of English that rules can correct: slips that are no words, words doubled, forms that can't stand together.
//! Whatever could be right stays. Pure.

/// What is no word, and what was meant.
const SPELLINGS: &str = "\
abscence=absence accomodate=accommodate accomodation=accommodation acheive=achieve acheived=achieved accross=across \
adress=address agressive=aggressive alot=a%lot allways=always apparantly=apparently arguement=argument becuase=because \
becasue=because begining=beginning beleive=believe beleived=believed beautifull=beautiful biger=bigger buisness=business \
calender=calendar cemetary=cemetery collegue=colleague comming=coming commitee=committee completly=completely \
concious=conscious definately=definitely definatly=definitely desparate=desperate diffrent=different \
dissapear=disappear dissapoint=disappoint dissapointed=disappointed embarass=embarrass embarassed=embarrassed \
enviroment=environment existance=existence experiance=experience finaly=finally foriegn=foreign freind=friend \
freinds=friends fourty=forty foward=forward futher=further goverment=government gaurd=guard greatful=grateful \
happend=happened heigth=height immediatly=immediately independant=independent intresting=interesting \
interupt=interrupt knowlege=knowledge lenght=length libary=library lisence=licence maintainance=maintenance \
minature=miniature mispell=misspell neccessary=necessary necesary=necessary neice=niece noticable=noticeable \
occassion=occasion occured=occurred occurence=occurrence ocurred=occurred oppurtunity=opportunity \
orginal=original peice=piece persue=pursue posession=possession prefered=preferred probaly=probably \
pronounciation=pronunciation publically=publicly realy=really reccomend=recommend recieve=receive recieved=received \
recieving=receiving recomend=recommend refered=referred relevent=relevant religous=religious remeber=remember \
repetion=repetition responsability=responsibility rythm=rhythm seperate=separate seperately=separately \
sieze=seize similiar=similar sincerly=sincerely speach=speech strenght=strength succesful=successful \
succesfully=successfully supprise=surprise suprise=surprise surprized=surprised teh=the tendancy=tendency \
thier=their tommorow=tomorrow tomorow=tomorrow tounge=tongue truely=truly unfortunatly=unfortunately untill=until \
usally=usually vaccum=vacuum visable=visible wether=whether wich=which wierd=weird writting=writing yeild=yield \
arent=aren't cant=can't couldnt=couldn't didnt=didn't doesnt=doesn't dont=don't hasnt=hasn't havent=haven't hadnt=hadn't \
isnt=isn't shouldnt=shouldn't thats=that's theyre=they're wasnt=wasn't werent=weren't whats=what's wouldnt=wouldn't \
youre=you're i=I i'm=I'm i've=I've i'll=I'll i'd=I'd im=I'm ive=I've \
monday=Monday tuesday=Tuesday wednesday=Wednesday thursday=Thursday friday=Friday saturday=Saturday sunday=Sunday \
january=January february=February september=September october=October november=November december=December \
english=English german=German french=French spanish=Spanish italian=Italian london=London paris=Paris berlin=Berlin \
europe=Europe christmas=Christmas";

/// Two words that can't stand together, and what was meant. `*` keeps the word that is there.
const PAIRS: &str = "\
could,of=*,have should,of=*,have would,of=*,have must,of=*,have might,of=*,have \
he,dont=*,doesn't she,dont=*,doesn't it,dont=*,doesn't he,don't=*,doesn't she,don't=*,doesn't it,don't=*,doesn't \
we,was=*,were they,was=*,were you,was=*,were i,has=*,have i,is=*,am they,is=*,are we,is=*,are they,has=*,have we,has=*,have \
this,are=these,* these,is=this,* those,is=that,* there,is,many=*,are,* there,is,several=*,are,* there,is,two=*,are,* \
there,was,many=*,were,* children,was=*,were people,is=*,are people,was=*,were children,is=*,are \
their,is=there,* their,are=there,* their,was=there,* their,were=there,* your,right=you're,* your,welcome=you're,* \
your,wrong=you're,* its,a=it's,* its,an=it's,* its,the=it's,* its,not=it's,* its,been=it's,* its,very=it's,* \
its,too=it's,* its,so=it's,* its,definitely=it's,* more,better=,* more,worse=,* more,taller=,* more,bigger=,* \
more,smaller=,* more,easier=,* more,older=,* more,faster=,* am,agree=,* is,agree=,agrees are,agree=,* \
have,went=*,gone has,went=*,gone had,went=*,gone have,saw=*,seen has,saw=*,seen had,saw=*,seen have,did=*,done \
has,did=*,done have,ate=*,eaten has,ate=*,eaten have,took=*,taken has,took=*,taken have,wrote=*,written \
has,wrote=*,written have,came=*,come has,came=*,come have,began=*,begun has,began=*,begun have,broke=*,broken \
has,broke=*,broken have,spoke=*,spoken has,spoke=*,spoken have,gave=*,given has,gave=*,given have,knew=*,known \
has,knew=*,known have,drove=*,driven has,drove=*,driven have,fell=*,fallen has,fell=*,fallen have,forgot=*,forgotten \
has,forgot=*,forgotten have,stole=*,stolen has,stole=*,stolen have,chose=*,chosen has,chose=*,chosen \
do,he=does,* do,she=does,* does,they=do,* does,we=do,* does,you=do,* was,you=were,* was,they=were,* was,we=were,* \
didn't,went=*,go didn't,saw=*,see didn't,came=*,come didn't,took=*,take didn't,knew=*,know bigger,then=*,than \
smaller,then=*,than better,then=*,than more,then=*,than less,then=*,than older,then=*,than taller,then=*,than \
me,were,the=me,where,* know,were,the=*,where,* who's,book=whose,* who's,car=whose,* who's,house=whose,* who's,idea=whose,*";

/// Little words that are doubled by mistake and never on purpose.
const DOUBLED: [&str; 16] =
    ["the", "a", "an", "and", "of", "to", "in", "on", "at", "for", "with", "is", "was", "are", "by", "from"];

/// A piece of a text: letters (with apostrophes inside), or what lies between.
fn tokens(text: &str) -> Vec<String> {
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    let mut found: Vec<String> = Vec::new();
    let mut before: Option<bool> = None;
    for c in text.chars() {
        let now = letter(c);
        match found.last_mut() {
            Some(last) if before == Some(now) => last.push(c),
            _ => found.push(c.to_string()),
        }
        before = Some(now);
    }
    found
}

fn is_word(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’'))
}

/// With the capital that the other one begins with.
fn like(word: &str, other: &str) -> String {
    let capital = other.chars().next().is_some_and(char::is_uppercase);
    let mut letters = word.chars();
    match letters.next() {
        Some(first) if capital => first.to_uppercase().chain(letters).collect(),
        _ => word.to_owned(),
    }
}

fn spelled(word: &str) -> Option<String> {
    // Names of programs and short forms have capitals inside.
    let inner = word.chars().skip(1).any(char::is_uppercase);
    let plain = word.to_lowercase().replace('’', "'");
    let (_, right) =
        SPELLINGS.split_whitespace().filter_map(|pair| pair.split_once('=')).find(|(own, _)| *own == plain)?;
    let right = like(&right.replace('%', " "), word);
    (!inner && right != word).then_some(right)
}

/// The text with what rules can correct.
pub(super) fn corrected(text: &str) -> String {
    let mut made = tokens(text);
    for at in 0..made.len() {
        // `i.e.`, `i)` are something else.
        let marked = made[at] == "i" && made.get(at + 1).is_some_and(|next| next.starts_with(['.', ')']));
        if let Some(right) = spelled(&made[at]).filter(|_| !marked) {
            made[at] = right;
        }
    }
    doubled(&mut made);
    for (wrong, right) in PAIRS.split_whitespace().filter_map(|pair| pair.split_once('=')) {
        pair(&mut made, &wrong.split(',').collect::<Vec<_>>(), &right.split(',').collect::<Vec<_>>());
    }
    articles(&mut made);
    made.concat()
}

/// Takes one of two away, with the gap between.
fn doubled(tokens: &mut Vec<String>) {
    let mut at = 0;
    while at + 2 < tokens.len() {
        let (one, gap, other) = (tokens[at].to_lowercase(), &tokens[at + 1], tokens[at + 2].to_lowercase());
        if one == other && gap == " " && DOUBLED.contains(&one.as_str()) {
            tokens.drain(at + 1..at + 3);
        } else {
            at += 1;
        }
    }
}

/// Replaces words that stand one behind the other; an empty one goes with the gap behind it.
fn pair(tokens: &mut Vec<String>, wrong: &[&str], right: &[&str]) {
    let width = 2 * wrong.len() - 1;
    let mut at = 0;
    while at + width <= tokens.len() {
        let same = wrong.iter().enumerate().all(|(word, own)| {
            tokens[at + 2 * word].to_lowercase().replace('’', "'") == *own
                && (word == 0 || tokens[at + 2 * word - 1] == " ")
        });
        if same {
            let first = tokens[at].clone();
            let made: Vec<String> = right
                .iter()
                .enumerate()
                .filter(|(_, new)| !new.is_empty())
                .map(|(word, new)| if *new == "*" { tokens[at + 2 * word].clone() } else { (*new).to_owned() })
                .collect();
            let mut parts: Vec<String> = Vec::new();
            for (word, new) in made.into_iter().enumerate() {
                parts.extend((word > 0).then(|| " ".to_owned()));
                parts.push(if word == 0 { like(&new, &first) } else { new });
            }
            tokens.splice(at..at + width, parts);
        }
        at += 1;
    }
}

/// `a apple`; of `u` and of sounds that letters don't show nothing is known.
fn articles(tokens: &mut [String]) {
    for at in 0..tokens.len().saturating_sub(2) {
        let next = tokens[at + 2].to_lowercase();
        let vowel = next.starts_with(['a', 'e', 'i', 'o'])
            && !["one", "once", "eu", "ewe"].iter().any(|own| next.starts_with(own));
        let letters = next.chars().count() > 2 && next.chars().all(char::is_alphabetic);
        if tokens[at] == "a" && tokens[at + 1] == " " && is_word(&next) && vowel && letters {
            tokens[at] = "an".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slips_are_corrected_and_nothing_else() {
        for (text, expected) in [
            ("We recieved the the parcel on friday.", "We received the parcel on Friday."),
            ("Thier house is biger then ours.", "Their house is bigger than ours."),
            ("Their are two cats.", "There are two cats."),
            ("i could of seen it, he dont.", "I could have seen it, he doesn't."),
            ("She is more taller than me.", "She is taller than me."),
            ("I am agree, I have saw a apple.", "I agree, I have seen an apple."),
            ("There is many people, we was late.", "There are many people, we were late."),
            ("Definately alot.", "Definitely a lot."),
            ("It's what it is: had had that that.", "It's what it is: had had that that."),
            ("A user, a European and a one-way street.", "A user, a European and a one-way street."),
            ("Their house is here.", "Their house is here."),
            ("iPhone and IM", "iPhone and IM"),
            ("Der Hund schläft.", "Der Hund schläft."),
        ] {
            assert_eq!(corrected(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_a_corrected_one_stays(text in "[a-e theirisa.,' ’ü\n-]{0,60}") {
            let once = corrected(&text);
            prop_assert!(tokens(&text).concat() == text && once.len() <= 2 * text.len() + 16);
        }
    }
}
