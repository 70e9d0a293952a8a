"""Webhook: secret URLs that start workflows.

Tells: webhook.release.held.v1 (the URLs of a release answer), webhook.call.received.v1 (its id becomes the run's id).
Listens to: workflow.release.published.v1, workflow.workflow.archived.v1, .unarchived.v1, .deleted.v1 (which URLs there
are), execution.execution.replied.v1 (the answer for a caller who waits).
"""
