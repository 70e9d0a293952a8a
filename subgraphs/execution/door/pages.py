"""The pages behind resume links: a question with two buttons, a form, or a sentence. No script, nothing from elsewhere.

What stands in them comes from workflow authors and is escaped throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1c2230}"
    "label{display:block;margin:1rem 0 .25rem;font-weight:600}small{color:#5a6472;font-weight:400}"
    "input,select,textarea{font:inherit;width:100%;box-sizing:border-box;padding:.5rem}"
    "input[type=checkbox]{width:auto}button{font:inherit;padding:.6rem 1.2rem;margin:1rem .5rem 0 0}"
    ".wrong{color:#a3162a}"
)
CSP = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HEAD = (
    "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=robots content=noindex>"
    '<meta name=viewport content="width=device-width, initial-scale=1">'
)


def page(title: str, body: str) -> bytes:
    shown = escape(title)
    return (
        f"{HEAD}<title>{shown}</title><style>{STYLE}</style></head><body><h1>{shown}</h1>{body}</body></html>".encode()
    )


def told(title: str, sentence: str) -> bytes:
    """A page that only says something."""
    return page(title, f"<p>{escape(sentence)}</p>")


def approval(title: str, message: str) -> bytes:
    """The question, a field for a comment, and two buttons that post the decision."""
    text = "".join(f"<p>{escape(line)}</p>" for line in message.splitlines() if line.strip())
    return page(
        title or "Approval",
        f"{text}<form method=post><label for=comment>Comment <small>optional</small></label>"
        "<textarea id=comment name=comment rows=3 maxlength=2000></textarea>"
        "<button name=decision value=approved>Approve</button>"
        "<button name=decision value=rejected>Reject</button></form>",
    )


def form(
    title: str, description: str, schema: Mapping[str, Any], given: Mapping[str, Any], wrong: Mapping[str, str]
) -> bytes:
    """The fields of a JSON Schema of an object, with what was filled in and what was wrong with it."""
    required = set(schema.get("required") or ())
    fields = "".join(
        _field(name, dict(kind), name in required, given.get(name), wrong.get(name))
        for name, kind in (schema.get("properties") or {}).items()
    )
    text = "".join(f"<p>{escape(line)}</p>" for line in description.splitlines() if line.strip())
    general = f"<p class=wrong>{escape(wrong[''])}</p>" if "" in wrong else ""
    return page(title or "Form", f"{text}{general}<form method=post>{fields}<button>Send</button></form>")


def _field(name: str, kind: Mapping[str, Any], required: bool, value: Any, wrong: str | None) -> str:
    shown = escape(str(kind.get("title") or name))
    hint = f" <small>{escape(str(kind['description']))}</small>" if kind.get("description") else ""
    key = escape(name, quote=True)
    fault = f"<p class=wrong>{escape(wrong)}</p>" if wrong else ""
    return f'<label for="{key}">{shown}{"" if required else " <small>optional</small>"}{hint}</label>' + (
        _input(key, kind, required, kind.get("default") if value is None else value) + fault
    )


def _input(key: str, kind: Mapping[str, Any], required: bool, value: Any) -> str:
    needed = " required" if required else ""
    if options := kind.get("enum"):
        chosen = "".join(
            f"<option{' selected' if option == value else ''}>{escape(str(option))}</option>" for option in options
        )
        blank = "" if required else "<option value=''></option>"
        return f'<select id="{key}" name="{key}"{needed}>{blank}{chosen}</select>'
    if kind.get("type") == "boolean":
        return f'<input type=checkbox id="{key}" name="{key}" value=true{" checked" if value else ""}>'
    text = escape("" if value is None else str(value), quote=True)
    if kind.get("type") in {"number", "integer"}:
        step = "1" if kind["type"] == "integer" else "any"
        return f'<input type=number step={step} id="{key}" name="{key}" value="{text}"{needed}>'
    if int(kind.get("maxLength") or 0) > 200:
        return f'<textarea id="{key}" name="{key}" rows=4{needed}>{text}</textarea>'
    types = {"date": "date", "email": "email", "uri": "url", "time": "time"}
    return f'<input type={types.get(str(kind.get("format")), "text")} id="{key}" name="{key}" value="{text}"{needed}>'
