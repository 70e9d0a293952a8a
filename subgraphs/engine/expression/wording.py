"""What the parser says, in words for the person who wrote the expression."""

from __future__ import annotations

import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"mismatched input '<EOF>' expecting \{.*"), "The expression ends too early: a value is expected."),
    (re.compile(r"mismatched input '<EOF>' expecting (.+)"), "The expression ends too early: {0} is expected."),
    (re.compile(r"mismatched input (.+) expecting \{.*"), "{0} is out of place: a value is expected."),
    (re.compile(r"mismatched input (.+) expecting (.+)"), "{0} is out of place: {1} is expected."),
    (re.compile(r"missing (.+) at '<EOF>'"), "{0} is missing at the end."),
    (re.compile(r"missing (.+) at (.+)"), "{0} is missing before {1}."),
    (re.compile(r"extraneous input '<EOF>'.*"), "The expression ends too early."),
    (re.compile(r"extraneous input (.+) expecting .*"), "{0} is not expected here."),
    (re.compile(r"no viable alternative at input (.+)"), "The expression cannot go on like this after {0}."),
    (re.compile(r"token recognition error at: '(.*)'"), "This has no meaning here: {0}"),
)


def plain(message: str) -> str:
    """The parser's message without its jargon; unknown ones stay as they are."""
    text = message.removeprefix("Syntax error: ")
    for pattern, words in _RULES:
        found = pattern.fullmatch(text)
        if found is not None:
            return words.format(*found.groups())
    return text[:1].upper() + text[1:]
