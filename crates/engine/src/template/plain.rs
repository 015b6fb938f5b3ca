//! Tools for models whose templates know none: told in the system's text, in the words that most models have seen.

use super::values;
use base::{Message, Role, Tool};
use std::borrow::Cow;
use std::fmt::Write;

const BEFORE: &str = "# Tools\n\nYou may call functions to help with the request. These are the functions, one JSON \
object in each line between <tools> and </tools>:\n<tools>\n";
const BEHIND: &str = "</tools>\n\nTo call a function, answer with its name and arguments as a JSON object between \
<tool_call> and </tool_call>:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <arguments-object>}\n\
</tool_call>";

/// Whether a template shows tools to its model.
pub(super) fn knows_tools(source: &str) -> bool {
    source.contains("tools")
}

/// Messages and tools as the template can take them: where it knows no tools, all of that becomes text.
pub(super) fn in_words<'a>(
    source: &str,
    messages: &'a [Message],
    tools: &'a [Tool],
) -> (Cow<'a, [Message]>, &'a [Tool]) {
    let speaks = messages.iter().any(|message| !message.calls.is_empty() || message.role == Role::Tool);
    if knows_tools(source) || (tools.is_empty() && !speaks) {
        return (Cow::Borrowed(messages), tools);
    }
    let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let (role, content) = match message.role {
            Role::Assistant => (Role::Assistant, with_calls(message)),
            Role::Tool => (Role::User, format!("<tool_response>\n{}\n</tool_response>", message.content)),
            Role::System | Role::User => (message.role, message.content.clone()),
        };
        let joins = message.role == Role::Tool || out.last().is_some_and(was_result);
        match out.last_mut() {
            // Turns alternate in most templates: several results are one message, with what the user says next.
            Some(last) if role == Role::User && joins && last.role == Role::User => {
                last.content.push('\n');
                last.content.push_str(&content);
            }
            _ => out.push(Message { reasoning: message.reasoning.clone(), ..Message::new(role, content) }),
        }
    }
    if !tools.is_empty() {
        let told = described(tools);
        match out.first_mut().filter(|first| first.role == Role::System) {
            Some(system) => system.content = format!("{}\n\n{told}", system.content),
            None => out.insert(0, Message::new(Role::System, told)),
        }
    }
    (Cow::Owned(out), &[])
}

fn was_result(message: &Message) -> bool {
    message.role == Role::User && message.content.ends_with("</tool_response>")
}

fn described(tools: &[Tool]) -> String {
    let mut text = BEFORE.to_owned();
    for tool in tools {
        // A tool's value came out of JSON, and a text takes all that is written to it.
        let _ = writeln!(text, "{}", super::json::one_line(&values::tool(tool)));
    }
    text + BEHIND
}

fn with_calls(message: &Message) -> String {
    let mut text = message.content.clone();
    for call in &message.calls {
        let name = serde_json::Value::from(call.name.as_str());
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = write!(
            text,
            "{gap}<tool_call>\n{{\"name\": {name}, \"arguments\": {}}}\n</tool_call>",
            call.arguments.trim()
        );
    }
    text
}
