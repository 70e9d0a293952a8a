"""What can be wrong with a definition, as data."""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_FAULTS = 500
"""So many are reported at most: an answer stays readable whatever was sent."""

Severity = Literal["error", "warning"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with a definition.

    `pointer`: JSON pointer (RFC 6901) into the definition. `position`: offset in characters within the text at
    `pointer`, for expressions. Errors keep a definition from running, warnings do not.
    """

    code: str
    message: str
    pointer: str = ""
    node: str | None = None
    severity: Severity = "error"
    next_step: str | None = None
    position: int | None = None


class Faults(ValueError):
    """A document that is no definition, with every reason found (at most `MAX_FAULTS`)."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults[0].message)
        self.faults = faults


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) of unescaped parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
