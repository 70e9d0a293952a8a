"""The built-in node types: every module of this package holds one, as `NODE`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules

import orjson

from subgraphs.executor.domain import NodeType


@lru_cache(maxsize=1)
def catalogue() -> Mapping[tuple[str, str], NodeType]:
    """All built-in node types by (type, version)."""
    found: dict[tuple[str, str], NodeType] = {}
    for module in sorted(iter_modules(__path__), key=lambda module: module.name):
        if module.name.startswith("_"):
            continue
        node: NodeType = import_module(f"{__name__}.{module.name}").NODE
        if node.key in found:
            raise LookupError(f"two modules hold the node type {node.key}")
        found[node.key] = node
    return found


def digest(types: Mapping[tuple[str, str], NodeType]) -> str:
    """A fingerprint of the manifests: the same types in the same versions give the same."""
    manifests = [types[key].manifest.json() for key in sorted(types)]
    return sha256(orjson.dumps(manifests, option=orjson.OPT_SORT_KEYS)).hexdigest()
