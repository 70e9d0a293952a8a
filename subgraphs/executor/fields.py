"""Fields of items by their names, as authors write them: `address.city` is city within address."""

from __future__ import annotations

from typing import Any

PATH_LIMIT = 32


def path_of(text: str) -> list[str]:
    """The names on the way; a dot that belongs to a name is written `\\.`. Raises ValueError."""
    parts = [part.replace("\0", ".") for part in text.replace("\\.", "\0").split(".")]
    if not all(parts) or len(parts) > PATH_LIMIT:
        raise ValueError(f"{text[:60]!r} is no name of a field.")
    return parts


def looked_up(json: Any, path: list[str]) -> tuple[bool, Any]:
    """Whether the field is there, and its value."""
    for name in path:
        if not isinstance(json, dict) or name not in json:
            return False, None
        json = json[name]
    return True, json
