"""The crash points by name: each a place on the way of a run, its events and its objects, where a process is killed."""

from __future__ import annotations

from collections.abc import Mapping

from subgraphs.platform.crash import Place

WRITER = "subgraphs.platform.writer:Writer"
RUNNER = "subgraphs.execution.runner.runner:Runner"
PLACES: Mapping[str, Place] = {
    "claimed": Place("subgraphs.platform.leases:Leases._gain", after=True),
    "lease_renewed": Place("subgraphs.platform.leases:Leases._look_round", after=True),
    "before_commit": Place(f"{WRITER}._send"),
    "after_commit": Place(f"{WRITER}._send", after=True),
    "prepared": Place("subgraphs.execution.runner.preparation:Preparation.prepare", after=True),
    "settled": Place(f"{RUNNER}.settle"),
    "body_begun": Place("subgraphs.execution.runner.bodies:outside"),
    "body_ended": Place("subgraphs.execution.runner.bodies:outside", after=True),
    "effect_sent": Place("subgraphs.platform.egress.client:Egress.request", after=True),
    "timer_due": Place(f"{RUNNER}.ask", of="Fire"),
    "letter_read": Place("subgraphs.execution.runner.sweep:Sweep._letter"),
    "object_stored": Place("subgraphs.platform.objects:Objects.put", after=True),
    "event_handled": Place("subgraphs.platform.delivery:Consumer.attempt", after=True),
    "before_cursor": Place("subgraphs.platform.cursors:advance"),
    "reply_sent": Place("subgraphs.webhook.replies:Answer.send", after=True),
    "read_back": Place(f"{RUNNER}._adopt", after=True),
    "before_drain": Place(f"{RUNNER}.drain"),
}
