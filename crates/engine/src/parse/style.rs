//! How a family of models writes thoughts and calls; found by the marks in a model's own template.

use base::ModelFacts;

/// What stands between the marks of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// `{"name": …, "arguments": {…}}`, one or several in an array.
    Envelope,
    /// A name within marks, then its arguments as JSON; an envelope where it begins with a bracket.
    Headed,
    /// `<function=name>` and a pair of tags for each argument.
    Tags(&'static Tags),
    /// `[name(key="value")]`
    Python,
    /// `call:name{key:value}`, where this mark stands on both sides of a text.
    Braces(&'static str),
}

/// The tags of an argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    /// What stands around the name; nothing: it ends with the line or at the next tag.
    pub(crate) name: Option<(&'static str, &'static str)>,
    pub(crate) key: (&'static str, &'static str),
    pub(crate) value: (&'static str, &'static str),
    pub(crate) ends: &'static [&'static str],
    /// What opens a call within a section of them; nothing: each has the family's mark.
    pub(crate) call: &'static str,
    /// One line break on either side of a value belongs to the tags.
    pub(crate) lines: bool,
}

/// How a call is written behind its mark, where an answer that may hold calls is kept to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// An envelope, and the mark that ends it, if there is one.
    Object(&'static str),
    /// A list of envelopes, likewise.
    List(&'static str),
    /// A list of envelopes whose keys are Command's own.
    Actions,
    /// `functions.name:0`, a mark and the arguments.
    Kimi,
    /// A section of such calls.
    KimiSection,
    /// A name, a mark and the arguments, in older models within a fence.
    DeepSeek,
    DeepSeekSection,
    /// A name, a mark and the arguments, or a list of envelopes.
    Mistral,
    /// The rest of a message's header, and the arguments.
    Channel,
    /// Tags for each argument.
    Tags(&'static Tags),
    /// A section of such calls, up to this mark.
    TagSection(&'static Tags, &'static str),
    /// A name, arguments in braces with this mark on both sides of a text, and the mark that ends them.
    Braces(&'static str, &'static str),
    /// A name, a bracket and the arguments, up to this mark.
    Function(&'static str),
    /// The name of a tool is part of the mark, and a line for itself.
    Recipient,
    /// Calls as Python writes them, in a list or alone, and the mark that ends them.
    Python {
        listed: bool,
        close: &'static str,
    },
}

/// Marks of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// What opens and closes a thought.
    pub(crate) think: Option<(&'static str, &'static str)>,
    /// What opens a call, or a list of them.
    pub(crate) openers: &'static [&'static str],
    /// What may stand behind a call, before the next one or the end.
    pub(crate) closers: &'static [&'static str],
    pub(crate) body: Body,
    /// An answer that begins with a bracket may be a call without marks.
    pub(crate) bare: bool,
    /// Marks around the answer itself, which mean nothing to a reader.
    pub(crate) frames: &'static [&'static str],
    /// Channels of messages in place of all that.
    pub(crate) harmony: bool,
    /// Or a line before each part of the answer, which says whom it is for.
    pub(crate) recipients: bool,
    /// What a model says when it waits for the results of its calls.
    pub(crate) waits: &'static [&'static str],
    /// The marks behind which a free answer is kept to a call, with what follows them. Marks that stand in plain text too
    /// aren't among them.
    pub(crate) kept: &'static [(&'static str, Layout)],
    /// What a call begins with, up to its envelope. Where there is none, one that is forced begins with its envelope.
    pub(crate) lead: &'static str,
}

static CODER: Tags = Tags {
    name: Some(("<function=", ">")),
    key: ("<parameter=", ">"),
    value: ("", "</parameter>"),
    ends: &["</function>", "</tool_call>"],
    call: "",
    lines: true,
};
static GLM: Tags = Tags {
    name: None,
    key: ("<arg_key>", "</arg_key>"),
    value: ("<arg_value>", "</arg_value>"),
    ends: &["</tool_call>"],
    call: "",
    lines: false,
};
static MINIMAX: Tags = Tags {
    name: Some(("name=\"", "\">")),
    key: ("<parameter name=\"", "\">"),
    value: ("", "</parameter>"),
    ends: &["</invoke>"],
    call: "<invoke ",
    lines: false,
};

/// Calls in `<tool_call>`, which most models have seen.
const PLAIN: Style = Style {
    think: None,
    openers: &["<tool_call>"],
    closers: &["</tool_call>"],
    body: Body::Envelope,
    bare: false,
    frames: &[],
    harmony: false,
    recipients: false,
    waits: &[],
    kept: &[("<tool_call>", Layout::Object("</tool_call>"))],
    lead: "<tool_call>\n",
};

/// The first whose words all stand in a template says how its models write calls.
const FAMILIES: &[(&[&str], Style)] = &[
    (
        &["<|channel|>", "<|message|>"],
        Style {
            openers: &[],
            closers: &[],
            body: Body::Headed,
            harmony: true,
            kept: &[("to=functions.", Layout::Channel)],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &[">>>all"],
        Style {
            openers: &[],
            closers: &[],
            body: Body::Headed,
            recipients: true,
            kept: &[(">>>", Layout::Recipient)],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &["<|tool_call>", "<tool_call|>"],
        Style {
            openers: &["<|tool_call>"],
            closers: &["<tool_call|>", "<|tool_response>"],
            body: Body::Braces("<|\"|>"),
            waits: &["<|tool_response>"],
            kept: &[("<|tool_call>", Layout::Braces("<|\"|>", "<tool_call|>"))],
            lead: "<|tool_call>",
            ..PLAIN
        },
    ),
    (
        &["<start_function_call>"],
        Style {
            openers: &["<start_function_call>"],
            closers: &["<end_function_call>", "<start_function_response>"],
            body: Body::Braces("<escape>"),
            waits: &["<start_function_response>"],
            kept: &[("<start_function_call>", Layout::Braces("<escape>", "<end_function_call>"))],
            lead: "<start_function_call>",
            ..PLAIN
        },
    ),
    (
        &["<minimax:tool_call>"],
        Style {
            openers: &["<minimax:tool_call>", "<invoke "],
            closers: &["</minimax:tool_call>"],
            body: Body::Tags(&MINIMAX),
            kept: &[("<minimax:tool_call>", Layout::TagSection(&MINIMAX, "</minimax:tool_call>"))],
            lead: "<minimax:tool_call>\n",
            ..PLAIN
        },
    ),
    (
        &["<|tool_call_argument_begin|>"],
        Style {
            openers: &["<|tool_call_begin|>", "<|tool_calls_section_begin|>"],
            closers: &["<|tool_call_end|>", "<|tool_calls_section_end|>"],
            body: Body::Headed,
            kept: &[("<|tool_call_begin|>", Layout::Kimi), ("<|tool_calls_section_begin|>", Layout::KimiSection)],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &["<｜tool▁calls▁begin｜>"],
        Style {
            openers: &["<｜tool▁call▁begin｜>", "<｜tool▁calls▁begin｜>"],
            closers: &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
            body: Body::Headed,
            kept: &[("<｜tool▁call▁begin｜>", Layout::DeepSeek), ("<｜tool▁calls▁begin｜>", Layout::DeepSeekSection)],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &["[TOOL_CALLS]"],
        Style {
            openers: &["[TOOL_CALLS]"],
            closers: &[],
            body: Body::Headed,
            kept: &[("[TOOL_CALLS]", Layout::Mistral)],
            lead: "[TOOL_CALLS]",
            ..PLAIN
        },
    ),
    (
        &["<|tool_call_start|>"],
        Style {
            openers: &["<|tool_call_start|>"],
            closers: &["<|tool_call_end|>"],
            body: Body::Python,
            kept: &[("<|tool_call_start|>", Layout::Python { listed: true, close: "<|tool_call_end|>" })],
            lead: "<|tool_call_start|>",
            ..PLAIN
        },
    ),
    (
        &["<|tool_list_start|>"],
        Style {
            openers: &["<|tool_call_start|>"],
            closers: &["<|tool_call_end|>"],
            body: Body::Python,
            kept: &[("<|tool_call_start|>", Layout::Python { listed: true, close: "<|tool_call_end|>" })],
            lead: "<|tool_call_start|>",
            ..PLAIN
        },
    ),
    (
        &["<function=", "<parameter="],
        Style { body: Body::Tags(&CODER), kept: &[("<tool_call>", Layout::Tags(&CODER))], ..PLAIN },
    ),
    (
        &["<function=", "</function>", "<|start_header_id|>"],
        Style {
            openers: &["<function="],
            closers: &["</function>", "<|eom_id|>"],
            body: Body::Headed,
            kept: &[("<function=", Layout::Function("</function>"))],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &["<arg_key>", "<arg_value>"],
        Style { body: Body::Tags(&GLM), kept: &[("<tool_call>", Layout::Tags(&GLM))], lead: "<tool_call>", ..PLAIN },
    ),
    (
        &["<|START_ACTION|>"],
        Style {
            openers: &["<|START_ACTION|>"],
            closers: &["<|END_ACTION|>"],
            frames: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
            kept: &[("<|START_ACTION|>", Layout::Actions)],
            lead: "<|START_ACTION|>",
            ..PLAIN
        },
    ),
    (
        &["<|tool_call|>"],
        Style {
            openers: &["<|tool_call|>"],
            closers: &["<|/tool_call|>"],
            kept: &[("<|tool_call|>", Layout::List(""))],
            lead: "<|tool_call|>",
            ..PLAIN
        },
    ),
    (
        &["<|tool|>"],
        Style {
            openers: &["<|tool_call|>", "functools"],
            closers: &["<|/tool_call|>"],
            bare: true,
            kept: &[("<|tool_call|>", Layout::List("<|/tool_call|>"))],
            lead: "<|tool_call|>",
            ..PLAIN
        },
    ),
    (&["<tool_call>"], PLAIN),
    (
        &["<|start_header_id|>"],
        Style {
            openers: &["<|python_tag|>"],
            closers: &[";", "<|eom_id|>"],
            bare: true,
            kept: &[("<|python_tag|>", Layout::Object(""))],
            lead: "",
            ..PLAIN
        },
    ),
    (
        &["<start_of_turn>"],
        Style {
            openers: &["```tool_code", "```tool_call", "```function_call", "```json", "<tool_call>"],
            closers: &["```", "</tool_call>"],
            body: Body::Python,
            bare: true,
            kept: &[
                ("```tool_code", Layout::Python { listed: false, close: "```" }),
                ("<tool_call>", Layout::Object("</tool_call>")),
            ],
            lead: "<tool_call>\n",
            ..PLAIN
        },
    ),
];

/// Marks of thoughts, the first pair that a template or vocabulary has.
const THOUGHTS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<thought>", "</thought>"),
    ("<|channel>thought", "<channel|>"),
];

impl Style {
    #[cfg(test)]
    pub(crate) const PLAIN: Style = PLAIN;

    pub(crate) fn of(facts: &ModelFacts) -> Self {
        let source = facts.tool_template.as_ref().or(facts.chat_template.as_ref()).map_or("", String::as_str);
        let has = |words: &&str| source.contains(words);
        let family = FAMILIES.iter().find(|(words, _)| words.iter().all(&has));
        let style = family.map_or(PLAIN, |(_, style)| *style);
        // A family that knows no tools is told of them in Freehold's words.
        let style = if source.contains("tools") || style.harmony || style.recipients { style } else { PLAIN };
        let known = |mark: &str| source.contains(mark) || facts.special_tokens.iter().any(|token| token == mark);
        let think = THOUGHTS.iter().find(|(_, close)| known(close)).copied().filter(|_| !style.harmony);
        Self { think, ..style }
    }

    /// Special tokens of the vocabulary that are marks of this style, so that the answer's text must show them.
    pub(crate) fn shown(&self, facts: &ModelFacts) -> Vec<String> {
        let thought = self.think.map(|(open, close)| [open, close]).into_iter().flatten();
        let channels: &[&str] =
            if self.harmony { &["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>"] } else { &[] };
        let headers: &[&str] = match self.body {
            Body::Headed => &["[ARGS]", "[CALL_ID]", "<｜tool▁sep｜>", "<|tool_call_argument_begin|>"],
            Body::Braces(_) | Body::Envelope | Body::Tags(_) | Body::Python => &[],
        };
        let mut tags: Vec<&str> = match self.body {
            Body::Tags(Tags { key, value, ends, .. }) => {
                [key.0, key.1, value.0, value.1].into_iter().chain(ends.iter().copied()).collect()
            }
            Body::Braces(quote) => vec![quote],
            Body::Headed | Body::Envelope | Body::Python => Vec::new(),
        };
        let marks = [self.openers, self.closers, self.frames, self.waits, channels, headers].concat();
        tags.extend(marks.into_iter().chain(thought));
        // The mark of a thought may be a token and a word.
        let opens = |token: &str| self.think.is_some_and(|(open, _)| open.starts_with(token) && !token.is_empty());
        let is_mark = |token: &String| tags.contains(&token.as_str()) || opens(token);
        facts.special_tokens.iter().filter(|token| is_mark(token)).cloned().collect()
    }

    /// What a call's envelope names its arguments.
    pub(crate) fn arguments_key(&self) -> &'static str {
        if self.bare && self.lead.is_empty() { "parameters" } else { "arguments" }
    }

    /// Text behind which a single call is whole.
    pub(crate) fn stop_after_one(&self) -> Option<&'static str> {
        self.closers.iter().copied().find(|closer| closer.len() > 3)
    }
}
