"""Renders chat templates as Hugging Face's transformers does: the reference of `cargo xtask eval templates`.

Reads a JSON object per line, {"source": ..., "given": {...}}, and writes one per line, {"text": ...} or
{"refused": ...}. Needs jinja2 alone.
"""

import datetime
import json
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The clock stands still, as it does for the renderer that is compared.
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


class Generation(Extension):
    """`{% generation %}` marks the assistant's words for training and prints what stands in it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def raise_exception(words):
    raise jinja2.exceptions.TemplateError(words)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = NOW.strftime
    return made


def render(source, given):
    try:
        return {"text": environment().from_string(source).render(**given)}
    except Exception as error:  # whatever a template does wrong is its refusal
        return {"refused": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(render(asked["source"], asked["given"])), flush=True)
