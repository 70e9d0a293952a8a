"""What a caller may do with runs: begin them, stop them."""

from subgraphs.execution.commands.forking import Edits, fork
from subgraphs.execution.commands.starting import rerun, start
from subgraphs.execution.commands.stopping import cancel

__all__ = ["Edits", "cancel", "fork", "rerun", "start"]
