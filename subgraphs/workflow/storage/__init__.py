"""Tables, event store, projections and the catalogue's copy."""

from subgraphs.workflow.storage.catalogue import Catalogues, learn
from subgraphs.workflow.storage.kept import KeptWorkflows, Outward
from subgraphs.workflow.storage.known import KnownWorkflows
from subgraphs.workflow.storage.store import EventStore
from subgraphs.workflow.storage.tables import metadata

__all__ = ["Catalogues", "EventStore", "KeptWorkflows", "KnownWorkflows", "Outward", "learn", "metadata"]
