//! Fields that a front end puts at the front of every prompt, that change with each request, and that nobody means for
//! the model: left as they are, a prompt would never begin like the one before, and be read whole every time.

use base::{Message, Role};
use std::borrow::Cow;

/// How a line of a system text begins that carries such a field, and how the field begins, whose hexadecimal value changes.
/// Claude Code writes it as `x-anthropic-billing-header: cc_version=…; cc_entrypoint=cli; cch=1a2b3;`, the sum of a request.
const FIELDS: [(&str, &str); 1] = [("x-anthropic-billing-header:", "cch=")];

/// The messages with zeros in these fields, as many as they had digits. Nothing else is touched.
pub(super) fn steadied(messages: &[Message]) -> Cow<'_, [Message]> {
    let has_some = |message: &Message| {
        message.role == Role::System && FIELDS.iter().any(|(line, _)| message.content.contains(line))
    };
    if !messages.iter().any(has_some) {
        return Cow::Borrowed(messages);
    }
    let mut messages = messages.to_vec();
    for message in messages.iter_mut().filter(|message| has_some(message)) {
        message.content = message.content.split_inclusive('\n').map(steady_line).collect();
    }
    Cow::Owned(messages)
}

fn steady_line(line: &str) -> Cow<'_, str> {
    let field = FIELDS.iter().find(|(begin, _)| line.trim_start().starts_with(begin));
    let Some(value) = field.and_then(|(_, field)| Some(line.find(field)? + field.len())) else { return line.into() };
    let digits = line[value..].bytes().take_while(u8::is_ascii_hexdigit).count();
    let (before, after) = (&line[..value], &line[value + digits..]);
    format!("{before}{}{after}", "0".repeat(digits)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(role: Role, text: &str) -> String {
        steadied(&[Message::new(Role::User, "hi"), Message::new(role, text)])[1].content.clone()
    }

    #[test]
    fn what_changes_with_each_request_becomes_zeros() {
        let text = |sum: &str| {
            format!(
                "x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch={sum};\nYou are a coder; cch=1a.\n"
            )
        };
        assert_eq!(steady(Role::System, &text("eb6c6")), text("00000"));
        assert_eq!(steady(Role::System, &text("eb6c6")), steady(Role::System, &text("1c8b4")));
        // In the middle of a text, without an end, and with more words behind it.
        assert_eq!(
            steady(Role::System, "a\nx-anthropic-billing-header: cch=12"),
            "a\nx-anthropic-billing-header: cch=00"
        );
        let more = "x-anthropic-billing-header: cch=f;You are a coder.";
        assert_eq!(steady(Role::System, more), "x-anthropic-billing-header: cch=0;You are a coder.");
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for text in
            ["", "cch=eb6c6", "say x-anthropic-billing-header: cch=1", "x-anthropic-billing-header: none", "é\r\n"]
        {
            assert_eq!(steady(Role::System, text), text);
        }
        let quoted = "x-anthropic-billing-header: cch=1";
        assert_eq!(steady(Role::User, quoted), quoted, "who writes of it means it");
    }
}
