"""Where runs stand and what began them; and how types of the graph that refer to each other find one another."""

import enum
from typing import Any

import strawberry

from resolvers.connections import Page
from subgraphs.platform.domain import Invalid


@strawberry.enum(description="Where a run stands. The last four are final: they never change.")
class ExecutionStatus(enum.Enum):
    QUEUED = strawberry.enum_value("queued", description="Accepted, and not begun yet.")
    RUNNING = strawberry.enum_value("running", description="At least one step is under way or about to be.")
    WAITING = strawberry.enum_value("waiting", description="Nothing to do before a timer is due.")
    PAUSED = strawberry.enum_value("paused", description="Held by a person.")
    SUCCEEDED = strawberry.enum_value("succeeded", description="Every step that was reached has ended well.")
    FAILED = strawberry.enum_value("failed", description="A step failed and its node says stop.")
    CANCELLED = strawberry.enum_value("cancelled", description="Somebody stopped it.")
    TIMED_OUT = strawberry.enum_value("timed_out", description="It took longer than its workflow allows.")


@strawberry.enum(description="What began a run.")
class ExecutionMode(enum.Enum):
    WEBHOOK = strawberry.enum_value("webhook", description="A call to one of the workflow's URLs.")
    MANUAL = strawberry.enum_value("manual", description="startExecution.")
    DRAFT = strawberry.enum_value("draft", description="A run of the draft as it stood then.")
    CHILD = strawberry.enum_value("child", description="A step of another run; see `parent`.")
    ERROR = strawberry.enum_value("error", description="The failure of another run, whose error workflow it is.")


@strawberry.enum(description="What a step waits for. A wait for a moment alone is not listed: see the step's `until`.")
class WaitKind(enum.Enum):
    SIGNAL = strawberry.enum_value("signal", description="A signal of a name: signalExecution.")
    EVENT = strawberry.enum_value("event", description="An event of a type that meets a condition: sendEvent.")
    APPROVAL = strawberry.enum_value("approval", description="A decision: answerApproval, or its link.")
    FORM = strawberry.enum_value("form", description="Somebody who fills in a form: its link, or answerWait.")
    WEBHOOK = strawberry.enum_value("webhook", description="A call to a URL that is good for it alone.")
    CHILD = strawberry.enum_value("child", description="The end of another run.")


def kind(info: strawberry.Info[Any, Any], name: str) -> Any:
    """The class behind a type of the graph: for a type whose fields lead back to where it is imported from."""
    found: Any = info.schema.get_type_by_name(name)
    return found.origin


def position(page: Page) -> int:
    """The place in its list that a page begins at, for lists whose cursors are places."""
    if page.after is None:
        return 0
    found = page.after[0]
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**31:
        raise Invalid(
            "This is not a cursor of this list.",
            code="cursor_malformed",
            field="after",
            next_step="Send endCursor of the page before, or nothing.",
        )
    return found
