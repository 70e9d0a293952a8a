"""Size limits of the house: files of at most 400 lines, functions of at most 40. Run by `make lint`.

A function's lines count from `def` to its end, without its docstring and without comment lines. Exceptions carry
their reason on the line: `# long: why` at the `def`, or in the first five lines of a file.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("subgraphs", "resolvers", "sandbox", "migrations", "tests")
FILE_LINES = 400
FUNCTION_LINES = 40
REASON = "# long: "


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield path


def faults(path: Path, text: str) -> Iterator[str]:
    """What in one file is too long, as `path:line: message`."""
    lines = text.splitlines()
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if len(lines) > FILE_LINES and not any(REASON in line for line in lines[:5]):
        yield f"{name}:1: {len(lines)} lines; more than {FILE_LINES}: make it a package, split by noun"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = _size(node, lines)
            if size > FUNCTION_LINES and REASON not in lines[node.lineno - 1]:
                yield f"{name}:{node.lineno}: {node.name} has {size} lines; more than {FUNCTION_LINES}: split it"


def _size(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    end = node.end_lineno or node.lineno
    counted = [line for line in lines[node.lineno - 1 : end] if not line.lstrip().startswith("#")]
    docstring = node.body[0]
    told = isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
    return len(counted) - ((docstring.end_lineno or 0) - docstring.lineno + 1 if told else 0)


def main() -> int:
    found = [fault for path in sources() for fault in faults(path, path.read_text())]
    print("\n".join(found) if found else "Sizes: every file and function within its limit.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
