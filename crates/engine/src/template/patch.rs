//! Templates that are known to be wrong, and what is done about each.
//!
//! A template is known by words of its own: the same defect lies in many copies that differ elsewhere, so that a
//! hash would miss most of them. What is done is said by `freehold models`.

/// One known defect.
#[derive(Debug)]
struct Patch {
    /// Every one of these stands in it.
    words: &'static [&'static str],
    /// Words in the template and what stands in their place; none where another part of Freehold sees to it.
    replaced: &'static [(&'static str, &'static str)],
    note: &'static str,
}

const PATCHES: &[Patch] = &[
    Patch {
        words: &["<|channel|>", "in message.content or"],
        replaced: &[(
            "{%- if \"<|channel|>analysis<|message|>\" in message.content or \
             \"<|channel|>final<|message|>\" in message.content %}",
            "{%- if false %}",
        )],
        note: "refuses conversations that quote its own marks; they are shown to the model as plain text instead",
    },
    Patch {
        words: &["[TOOL_CALLS]", "if (message['content'] is none or"],
        replaced: &[(
            "{%- if (message['content'] is none or message['content'] == '' or \
             message['content']|length == 0) and (message['tool_calls'] is not defined or \
             message['tool_calls'] is none or message['tool_calls']|length == 0) %}",
            "{%- if false %}",
        )],
        note: "refuses an empty turn of the assistant; it is shown to the model as empty instead",
    },
    Patch {
        words: &["This model only supports single tool-calls at once!"],
        replaced: &[],
        note: "shows one call in a message; several calls are shown one after the other, each with its result",
    },
    Patch {
        words: &["System role not supported"],
        replaced: &[],
        note: "has no place for system text; it is put before the first message of the user",
    },
];

/// The template as it is used, with what was done to it.
pub(super) fn patched(source: &str) -> (String, Vec<&'static str>) {
    let mut notes = Vec::new();
    let mut out = source.to_owned();
    for patch in PATCHES {
        if patch.words.iter().all(|words| source.contains(words)) {
            notes.push(patch.note);
            for (from, to) in patch.replaced {
                out = out.replace(from, to);
            }
        }
    }
    (out, notes)
}
