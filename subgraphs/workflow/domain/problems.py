"""What can go wrong with a workflow that its people can put right."""

from __future__ import annotations

from subgraphs.engine.faults import Fault
from subgraphs.platform.domain import Conflict, Invalid, Limited


class Stale(Conflict):
    """A save based on a revision that is no longer the newest: nothing was written."""

    def __init__(self, base: int, newest: int) -> None:
        super().__init__(
            f"The draft moved on from revision {base} to {newest}.",
            code="draft_conflict",
            field="input.baseRevision",
            next_step=f"Bring your changes into revision {newest} and save again with baseRevision {newest}.",
        )
        self.base = base
        self.newest = newest


class Raced(Conflict):
    """Two writers appended at the same version and the other one won; worth another try on the new state."""

    default_code = "version_conflict"


class Unsound(Invalid):
    """A definition that is none, or whose errors keep it from running."""

    default_code = "definition_invalid"

    def __init__(self, message: str, faults: tuple[Fault, ...], *, field: str = "input.definition") -> None:
        super().__init__(message, field=field, next_step="Correct what the faults name.")
        self.faults = faults


class Unready(Limited):
    """Executor has not announced its node types yet; nothing can be validated."""

    default_code = "catalogue_unknown"

    def __init__(self) -> None:
        super().__init__(
            "The catalogue of node types has not arrived yet.", retry_after=1.0, next_step="Try again in a second."
        )
