"""What a caller may do with runs: begin them, stop and hold them, talk to them."""

from subgraphs.execution.commands.answering import answer, approve, delegate, send, settle, signal
from subgraphs.execution.commands.forking import Edits, fork, mend
from subgraphs.execution.commands.holding import pause_all, resume_all
from subgraphs.execution.commands.starting import rerun, start
from subgraphs.execution.commands.stopping import cancel, kill, pause, resume

__all__ = [
    "Edits",
    "answer",
    "approve",
    "cancel",
    "delegate",
    "fork",
    "kill",
    "mend",
    "pause",
    "pause_all",
    "rerun",
    "resume",
    "resume_all",
    "send",
    "settle",
    "signal",
    "start",
]
