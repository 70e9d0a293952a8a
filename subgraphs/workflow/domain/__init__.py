"""A workflow: its aggregate, its changes, its problems. Event-sourced; nothing here does input or output."""

from subgraphs.workflow.domain.calls import (
    Call,
    Head,
    Known,
    Place,
    call_faults,
    calls_of,
)
from subgraphs.workflow.domain.changes import (
    AnyChange,
    Change,
    DraftSaved,
    ReleasePublished,
    RevisionNamed,
    RevisionRestored,
    State,
    WorkflowArchived,
    WorkflowCreated,
    WorkflowDeleted,
    WorkflowRenamed,
    WorkflowUnarchived,
)
from subgraphs.workflow.domain.definitions import (
    Catalogue,
    Document,
    DraftRun,
    DraftRuns,
    Part,
)
from subgraphs.workflow.domain.problems import (
    Raced,
    Stale,
    Unready,
    Unsound,
)
from subgraphs.workflow.domain.workflow import (
    Workflow,
    Workflows,
    named,
    noted,
)

__all__ = [
    "AnyChange",
    "Call",
    "Catalogue",
    "Change",
    "Document",
    "DraftRun",
    "DraftRuns",
    "DraftSaved",
    "Head",
    "Known",
    "Part",
    "Place",
    "Raced",
    "ReleasePublished",
    "RevisionNamed",
    "RevisionRestored",
    "Stale",
    "State",
    "Unready",
    "Unsound",
    "Workflow",
    "WorkflowArchived",
    "WorkflowCreated",
    "WorkflowDeleted",
    "WorkflowRenamed",
    "WorkflowUnarchived",
    "Workflows",
    "call_faults",
    "calls_of",
    "named",
    "noted",
]
