"""Executor: runs the bodies of nodes.

It owns the built-in node types (`nodes/`, one file each) and the state of its workers. It announces the catalogue of
node types (`executor.catalogue.announced.v1`) when it starts and listens to nothing. It keeps no state of runs:
Execution asks it for one step at a time, through `subgraphs.engine.step.Executor`.
"""
