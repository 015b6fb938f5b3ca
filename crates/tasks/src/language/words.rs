//! The little words that languages are made of: a short text shows its language by them, and they say nothing of what a
//! text is about.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use whatlang::Lang;

/// Frequent words, each language's own; which of them languages share is counted.
const WORDS: [(Lang, &str); 22] = [
    (
        Lang::Eng,
        "a about after all also am an and any are as at be because been before but by can could did do does done down each \
         every for from good had has have he hello her here him his how i if in into is it its just like may me might more \
         most much must my no not now of off on once one only or other our out over please same shall she should so some \
         such than thank thanks that the their them then there these they this those through to today too under until up \
         upon us very was we were what when where whether which while who whom whose why will with would yes you your",
    ),
    (
        Lang::Deu,
        "aber alle allem allen aller alles als also am an auch auf aus bei bin bis bist da damit dann das dass dein dem den \
         denn der des dich die dies diese diesem diesen dieser dieses dir doch dort du durch ein eine einem einen einer \
         eines er es etwas euch für geht gibt gut guten haben hat hatte heute hier hoch ich ihm ihn ihr ihre im in ist ja \
         jede jeder kann kein keine können machen man mehr mein mich mir mit muss müssen nach nicht nichts noch nun nur ob \
         oder ohne schon sehr sein seine sich sie sind so sollen soll über um und uns unser unter viel vom von vor war \
         warum was wenn wer werden wie wieder will wir wird wo wann woher zu zum zur zwischen",
    ),
    (
        Lang::Fra,
        "a ai alors au aujourd'hui aussi autre aux avec avez avoir bien bonjour c'est ce cela ces cet cette chez comme \
         comment d'un d'une dans de des deux donc du elle elles en est et être eux fait faut il ils j'ai je jusqu'à l la le \
         les leur leurs lui ma mais me merci mes moi mon ne nos notre nous on ont ou où par pas plus pour pourquoi quand \
         que quel quelle qui quoi s'il sa sais sans se ses si son sont suis sur ta te tes toi ton tous tout toute très tu \
         un une va vous votre y à",
    ),
    (
        Lang::Spa,
        "a al algo así aunque aquí bien buenos buenas como cómo con cuando cuándo cual cuál de del desde donde dónde dos e el \
         él ella ellos en entre era eres es esa ese eso esta está estaba estamos están estás este esto estoy fue gracias ha \
         hace hasta hay hola hora hoy la las le les lo los más me mi mis muy nada ni no nos nosotros nuestro o otra otro \
         para pero por porque puede que qué quién se ser si sí sin sobre son soy su sus también te tiene tengo todo todos \
         tu tú un una uno usted y ya yo",
    ),
    (
        Lang::Ita,
        "a al alla anche ancora avere bene buongiorno c'è che chi ci ciao come con cosa così da dal dalla dei del dell'anno \
         della delle deve di dove due e è ed essere fa fare gli grazie ha hai hanno ho i il in io la le lei lo loro lui ma \
         mi mia mio molto ne nel nella no noi non o oggi ogni per perché più può qual quale quando quanto quello questa \
         questo qui sei senza si sì sia sono sta stai su sua suo sul sulla tra tu tutti tutto un una uno va vi voi",
    ),
    (
        Lang::Por,
        "a à ao aos as assim até bem boa bom com como da das de depois do dois dos e é ela elas ele eles em então era essa \
         esse esta está estão este eu foi fora há hoje isso isto já la lhe mais mas me mesmo meu minha muito na não nas nem \
         no nos nós nossa nosso num numa o obrigado olá onde os ou para pela pelo pode por porque quando que quem são se \
         sem ser seu sim só sobre sua também te tem tenho tudo um uma você vocês",
    ),
    (
        Lang::Nld,
        "aan al alle allemaal als altijd bij daar dan dat de deze die dit doen door dus een en er gaat geen goed \
         goedemorgen haar had heb hebben heeft heel hem het hier hij hoe iets ik in is ja je jij jou jullie kan kunnen maar \
         me meer men met mij mijn moet moeten naar niet niets nog nu of om omdat ons ook op over te toen tot twee uit uw van \
         vandaag veel voor waar waarom wanneer want was wat we weer wel werd wie wij wil wordt worden zal ze zei zich zij \
         zijn zo zonder zou",
    ),
    (
        Lang::Swe,
        "alla allt att av blev bli bra där de den denna det detta dig din dina du efter eller en er ett från för god ha hade \
         han har hej henne hennes hon honom hur här i idag igen inte ja jag kan kunde man med mig min mina mot mycket mår \
         många nej ni nog nu när något och också om på sig sin ska skulle som så till tack två under ut utan vad var varför \
         vara vem vi vid vilken vill är över",
    ),
    (
        Lang::Dan,
        "af alle at blev bliver da de den denne der deres det dette dig din du efter eller en er et fra få for god godt ham \
         han hans har havde hej hende her hos hun hvad hvem hvor hvordan hvorfor i idag ikke ind jeg kan kun man mange med \
         meget men mig min mod ned nej noget nogle nu når og også om op over på selv sig sin sit skal som så tak til to ud \
         under var ved vi vil være",
    ),
    (
        Lang::Nob,
        "alle at av ble bli da dag de deg den denne der det dette din du eller en er et etter for fra god ha hadde han har \
         hei henne her hun hva hvem hvor hvordan hvorfor i idag igjen ikke ja jeg kan kunne man mange med meg men min mot \
         mye mer nei noe noen nå når og også om opp over på seg sin skal skulle som så takk til to ut var ved vi vil være",
    ),
    (
        Lang::Fin,
        "ei en että hän hei hyvä hyvää ja jo jos joka kaikki kanssa kiitos kuin kuinka kun koska kuka me mikä miksi minun \
         minä missä mitä mutta myös ne niin nyt oli olen olet on ovat saa se sen siellä sinä sitä tai tämä te tänään vain \
         vielä voi vuonna",
    ),
    (
        Lang::Pol,
        "ale bardzo bez być był była było co czy dla dlaczego do dobry dwa dzień dziś dzięki gdy gdzie go i ich ile ja jak \
         jaki jest jestem już każdy kiedy kto która które który lub ma mam masz mnie może my na nad nie nie nic o od on ona \
         oni ono oraz po pod przed przez przy są się tak także tam ten to trzeba tu tylko w we więc z za ze że",
    ),
    (
        Lang::Ces,
        "ale ani až bez bude být byl byla bylo co dnes do dobrý dobré dva i jak jaký je jeho jejich jen ještě jsem jsi jsme \
         jsou jste k kde kdo kdy když která které který ma má mám máte mezi mi mít mu my na nebo není o od on ona pak po \
         pod pro proč protože před při s se si ta tak také tam ten to tu už v ve více všechno vy z za ze že",
    ),
    (
        Lang::Slk,
        "ako aj ale alebo aký bez bol bola bolo bude by byť čo dnes do dobrý dobré dva ešte ich ja je jeho kde kto ktorá \
         ktoré ktorý keď ma má mám máte medzi mi my na nad nie o od on ona po pod pre prečo pri s sa si sme som sú ste tak \
         tam ten to tu už v vo všetko vy z za že",
    ),
    (
        Lang::Hun,
        "a az azt be csak de egy el én és ez ezt ha hogy hogyan hol igen is itt jó ki kell köszönöm le lesz már még meg mert \
         mi miért mikor mint mit most nagyon ne nem nincs ő ők pedig sem szia te ti után vagy vagyok van vannak volt",
    ),
    (
        Lang::Ron,
        "a acest aceasta ai al am ar are așa au bine bună ca care că ce cel cu cum când de din doi ea ei el este eu fi fost \
         fără iar îi în la le lor lui mai mea meu mult mulțumesc nici noi nu o pe pentru prin să sau se sunt și ta te tu \
         toate toți un una unde unei unui va vă voi",
    ),
    (
        Lang::Tur,
        "ama ancak bana ben beni bir biz bu bugün bunu çok da daha de değil diye en evet gibi günaydın hayır her için ile \
         ise kadar ki kim mı mi mu mü nasıl nasılsın ne neden nerede niye o olan olarak oldu onlar onu sana sen siz şey şu \
         teşekkürler ve veya var ya yok",
    ),
    (
        Lang::Hrv,
        "ali bez bi bila bilo bio biti da danas do dobar dobro gdje hvala i ili iz ja je jer još kad kada kako koja koje koji \
         kroz li mi moj može na nakon ne nema nije o od on ona oni po pod pri s sa sam samo se si smo su što ta tako te ti \
         to u već vi za zašto",
    ),
    (
        Lang::Slv,
        "ali bi bil bila bilo biti brez da danes do dober dobro hvala in iz ja jaz je kaj kako kdo kdaj ker ki kje ko kot \
         lahko le ma me med mi moj na ne ni nič o od on ona po pod pri pred s sem se si smo so ste še ta tako te ti to tudi \
         v vi z za zakaj že",
    ),
    (
        Lang::Est,
        "aga aitäh ei ega ei ette ja jah juba ka kas keda kes kui kuidas kus ma me miks mida mille mina mis mu ning nad nii \
         olen oled oli on pole see seda siin sina ta tere tema te väga või",
    ),
    (
        Lang::Cat,
        "a al als amb aquest aquesta avui bé bon com de del dels dia dos el ella els en és està ets era fa fins gràcies ha \
         han hi ho i ja jo la les li meu molt més me no nosaltres o on per però perquè podeu què qui s'ha se seu sense si \
         són sóc també tenir tot tu un una us va vostè",
    ),
    (
        Lang::Ind,
        "ada adalah akan aku anda apa atau bagaimana banyak belum bisa bukan dalam dan dari dengan di dia hari harus ini itu \
         jika juga kami kamu karena ke kepada kita lagi lebih mereka oleh orang pada pagi sangat satu saya sebagai selamat \
         semua sudah telah terima kasih tetapi tidak untuk yang",
    ),
];

static INDEX: LazyLock<BTreeMap<&'static str, Vec<Lang>>> = LazyLock::new(|| {
    let mut index: BTreeMap<&str, Vec<Lang>> = BTreeMap::new();
    for (lang, words) in WORDS {
        for word in words.split_whitespace() {
            let langs = index.entry(word).or_default();
            if !langs.contains(&lang) {
                langs.push(lang);
            }
        }
    }
    index
});

/// Whether a word, in small letters, is one of the little ones of any of these languages.
pub(crate) fn is_little(word: &str) -> bool {
    INDEX.contains_key(word)
}

/// What the little words of a text say for each language: a word that several have is shared among them. The most first.
pub(super) fn votes(text: &str) -> Vec<(Lang, f64)> {
    let mut votes: Vec<(Lang, f64)> = Vec::new();
    let lower = text.to_lowercase().replace('’', "'");
    for word in lower.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty()) {
        let Some(langs) = INDEX.get(word.trim_matches('\'')) else { continue };
        for lang in langs {
            let one = 1.0 / langs.len() as f64;
            match votes.iter_mut().find(|(own, _)| own == lang) {
                Some((_, sum)) => *sum += one,
                None => votes.push((*lang, one)),
            }
        }
    }
    votes.sort_by(|one, other| other.1.total_cmp(&one.1));
    votes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_vote_for_their_language() {
        for (text, lang) in [
            ("How are you?", Lang::Eng),
            ("Ich liebe dich", Lang::Deu),
            ("Je ne sais pas", Lang::Fra),
            ("Jak se máte?", Lang::Ces),
            ("Hur mår du?", Lang::Swe),
        ] {
            assert_eq!(votes(text).first().map(|(lang, _)| *lang), Some(lang), "{text}: {:?}", votes(text));
        }
        assert!(votes("Kessel boiler chaudière").is_empty());
        assert!(is_little("the") && is_little("über") && !is_little("bridge"));
    }
}
