"""`licence_lint.py router.yaml supergraph.graphql`: exit 1 if an Apollo Router 2.17 without licence would refuse them.

`router config validate` checks syntax only. The lists are the router's own enforcement (2.17.0): keys whose presence
counts whatever they say, keys that count when true, and specs in the supergraph. `@policy` would start, but every such
field would then answer null.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

PRESENT = (
    "apq.router.cache.redis",
    "authentication.router",
    "authorization.directives",
    "batching",
    "coprocessor",
    "demand_control",
    "persisted_queries",
    "supergraph.query_planning.cache.redis",
    *(f"limits.{p}max_{k}" for p in ("", "router.") for k in ("depth", "height", "root_fields", "aliases")),
)
TRUE = ("subscription.enabled", "response_cache.enabled", "preview_entity_cache.enabled")
SPECS = ("authenticated", "requiresScopes", "policy")
ABSENT = object()


def at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key, ABSENT) if isinstance(config, dict) else ABSENT
    return config


def needs_licence(config: Any, supergraph: str) -> list[str]:
    """What is in the parsed router.yaml and the supergraph's SDL that needs a licence."""
    found = [path for path in PRESENT if at(config, path) is not ABSENT]
    # A value that an environment variable fills in counts as true: nobody knows it here.
    found += [path for path in TRUE if at(config, path) not in (ABSENT, None, False, "false")]
    return found + [f"@{spec}" for spec in SPECS if re.search(rf"specs\.apollo\.dev/{spec}/v", supergraph)]


def main(config: str, supergraph: str) -> int:
    found = needs_licence(yaml.safe_load(Path(config).read_text()), Path(supergraph).read_text())
    sys.stdout.write(("\n".join(f"needs a licence: {what}" for what in found) or "no licence needed") + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
