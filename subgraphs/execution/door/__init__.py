"""The public door for those who are not logged in: signed links that answer what a run waits for, once each."""

from subgraphs.execution.door.door import Door
from subgraphs.execution.door.links import Links

__all__ = ["Door", "Links"]
