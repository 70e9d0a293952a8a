"""Workflow: definitions under a name, their revisions and releases.

Tells: workflow.workflow.created.v1, .renamed.v1, .archived.v1, .unarchived.v1, .deleted.v1, workflow.draft.saved.v1,
workflow.draft.requested.v1, workflow.release.published.v1. Listens to: executor.catalogue.announced.v1 (its own copy of
the node types), execution.release.held.v1 and webhook.release.held.v1 (whether a release is active).
"""
