"""Execution runs workflows: it owns every run, its journal, its timers, and the idempotency of starts.

It tells others `execution.release.held.v1`, `execution.execution.replied.v1` and `execution.execution.finished.v1`.
It listens to `workflow.release.published.v1`, and begins a run from each `workflow.draft.requested.v1`,
`webhook.call.received.v1` and its own `execution.execution.requested.v1`. Node bodies run in Executor, behind a port.
"""
