"""Which runs a list shows, and the business keys of a run."""

import strawberry

from resolvers.ids import parse_id
from resolvers.scalars import DateTime
from subgraphs.execution.domain import Filter
from subgraphs.execution.schema.statuses import ExecutionMode, ExecutionStatus
from subgraphs.platform.domain import Invalid

SEARCHED = 3
"""Letters an error text is searched by at least: the index knows texts by groups of three."""
MOST_KEYS = 8


@strawberry.input(description="A business key: what a run is about in the words of the business, such as an order.")
class BusinessKeyFilter:
    name: str = strawberry.field(description="As the run set it, for example order.")
    value: str = strawberry.field(description="Exactly this value.")


@strawberry.input(description="Which runs to list; all conditions hold together.")
class ExecutionFilter:
    workflow_id: strawberry.ID | None = strawberry.field(default=None, description="Runs of this workflow.")
    status: list[ExecutionStatus] | None = strawberry.field(default=None, description="In one of these statuses.")
    mode: ExecutionMode | None = strawberry.field(default=None, description="Begun in this way.")
    release: int | None = strawberry.field(default=None, description="Of this release.")
    started_after: DateTime | None = strawberry.field(default=None, description="Begun after this moment.")
    started_before: DateTime | None = strawberry.field(default=None, description="Begun before this moment.")
    error_code: str | None = strawberry.field(default=None, description="Ended with exactly this error code.")
    error_text: str | None = strawberry.field(
        default=None, description="Ended with an error whose code or message holds this text, at least 3 letters."
    )
    keys: list[BusinessKeyFilter] | None = strawberry.field(
        default=None, description="Carrying all of these business keys, at most 8."
    )
    tag: str | None = strawberry.field(default=None, description="Carrying this tag: a business key without a value.")

    def filter(self) -> Filter:
        keys = [(key.name, key.value) for key in self.keys or ()]
        if self.tag is not None:
            keys.append((self.tag, ""))
        if len(keys) > MOST_KEYS:
            raise Invalid(
                f"A list is filtered by at most {MOST_KEYS} keys.",
                code="keys_many",
                field="filter.keys",
                next_step="Filter by fewer keys.",
            )
        return Filter(
            workflow=parse_id(self.workflow_id, "filter.workflowId") if self.workflow_id is not None else None,
            statuses=[str(status.value) for status in self.status or ()],
            mode=str(self.mode.value) if self.mode is not None else None,
            release=self.release,
            started_after=self.started_after,
            started_before=self.started_before,
            error_code=_storable(self.error_code, "filter.errorCode"),
            error_text=_searched(self.error_text),
            keys=[
                (_storable(name, "filter.keys") or "", _storable(value, "filter.keys") or "") for name, value in keys
            ],
        )


def _searched(text: str | None) -> str | None:
    if text is not None and len(text.strip()) < SEARCHED:
        raise Invalid(
            f"An error text is searched by at least {SEARCHED} letters.",
            code="search_short",
            field="filter.errorText",
            next_step="Search for a longer part of the text.",
        )
    return _storable(text, "filter.errorText")


def _storable(text: str | None, field: str) -> str | None:
    if text is not None and "\0" in text:
        raise Invalid(
            "Text does not hold the character NUL.",
            code="text_malformed",
            field=field,
            next_step="Send the text without it.",
        )
    return text
