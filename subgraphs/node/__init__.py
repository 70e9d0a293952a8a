"""Node: the registry of node types, searched by people and editors.

Tells nobody. Listens to: executor.catalogue.announced.v1, of which it keeps its own copy.
"""
