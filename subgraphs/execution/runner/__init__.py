"""The owner of runs: it starts, advances, commits, resumes and stops them, for the partitions this process leases."""

from subgraphs.execution.runner.preparation import Preparation
from subgraphs.execution.runner.runner import Runner

__all__ = ["Preparation", "Runner"]
