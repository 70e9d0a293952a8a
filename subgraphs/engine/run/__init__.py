"""One run of a workflow as a pure state machine: recorded history plus a command gives new events.

`decide` reads a run and a command and says what happens; `evolve` applies what happened. Neither reads a clock, draws a
random number or does input or output, so a run can be rebuilt, tested and simulated from its journal alone.
"""

from subgraphs.engine.run.commands import Cancel, Command, Complete, Fire, Recover, Start
from subgraphs.engine.run.decision import decide
from subgraphs.engine.run.events import (
    Event,
    Finished,
    Made,
    Replied,
    Respond,
    Started,
    StepFailed,
    StepsSkipped,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    decode,
    encode,
    encode_one,
)
from subgraphs.engine.run.lineage import ancestor
from subgraphs.engine.run.plan import Plan, PlanNode, Unrunnable
from subgraphs.engine.run.snapshot import restore, snapshot
from subgraphs.engine.run.state import FINAL, STATUSES, Run, Step, evolve, replay

__all__ = [
    "FINAL",
    "STATUSES",
    "Cancel",
    "Command",
    "Complete",
    "Event",
    "Finished",
    "Fire",
    "Made",
    "Plan",
    "PlanNode",
    "Recover",
    "Replied",
    "Respond",
    "Run",
    "Start",
    "Started",
    "Step",
    "StepFailed",
    "StepStarted",
    "StepSucceeded",
    "StepWaiting",
    "StepsSkipped",
    "Unrunnable",
    "ancestor",
    "decide",
    "decode",
    "encode",
    "encode_one",
    "evolve",
    "replay",
    "restore",
    "snapshot",
]
