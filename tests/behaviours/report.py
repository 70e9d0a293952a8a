"""`make behaviours`: what LinkFlow promises, and which promises no test shows. Exit code 1 when there are such.

Promises stand in tests/behaviours/*.toml, by id: `[EX-01]`, `says = "…"`. Tests carry `@pytest.mark.shows("EX-01")`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MARK = re.compile(r"\bshows\(\s*((?:\"[A-Z0-9]+-?[A-Z0-9]*\"\s*,?\s*)+)\)")


def promises() -> dict[str, str]:
    """Every promised behaviour, by id."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text()).items():
            found.setdefault(name, entry["says"])
    return found


def shown() -> dict[str, list[str]]:
    """The ids tests claim to show, with the files of those tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.parent.rglob("test_*.py")):
        for words in MARK.findall(path.read_text()):
            for name in re.findall(r"\"([^\"]+)\"", words):
                found.setdefault(name, []).append(str(path.relative_to(FOLDER.parent)))
    return found


def main() -> int:
    promised, proven = promises(), shown()
    missing = {name: says for name, says in sorted(promised.items()) if name not in proven}
    unsaid = sorted(set(proven) - set(promised))
    for name, says in missing.items():
        print(f"{name}: no test shows that {says[:1].lower()}{says[1:]}")
    for name in unsaid:
        print(f"{name}: shown by {', '.join(sorted(set(proven[name])))}, but promised nowhere in tests/behaviours/")
    print(f"{len(promised) - len(missing)} of {len(promised)} promises are shown by tests.")
    return 1 if missing or unsaid else 0


if __name__ == "__main__":
    sys.exit(main())
