"""What may be read of the registry. It is the same for every tenant."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from subgraphs.node.domain import NodeType
from subgraphs.platform.database import Reading

PAGE = text("select manifest, versions from node.find_types(:words, :category, :after, :most)").bindparams(
    bindparam("words", type_=ARRAY(Text))
)
FACETS = text("select category, types from node.count_types(:words)").bindparams(bindparam("words", type_=ARRAY(Text)))
ONE = text("select manifest, versions from node.read_type(:type, :version)")
DIGEST = text("select node.catalogue_digest()")


async def node_types(
    reading: Reading, *, limit: int, after: str | None, search: str | None, category: str | None
) -> list[NodeType]:
    """The newest version of each type, by name. `search`: words that all occur in type, title, summary or category."""
    wanted = {"words": _patterns(search), "category": category, "after": after, "most": limit}
    return [_type(row) for row in await reading.rows(PAGE, wanted)]


async def categories(reading: Reading, *, search: str | None) -> list[tuple[str, int]]:
    """How many types of each category a search finds."""
    return [(row["category"], row["types"]) for row in await reading.rows(FACETS, {"words": _patterns(search)})]


async def node_type(reading: Reading, type: str, version: str | None) -> NodeType | None:
    """One version, the newest if none is named."""
    row = await reading.row(ONE, {"type": _clean(type), "version": _clean(version)})
    return _type(row) if row else None


async def digest(reading: Reading) -> str | None:
    """Of the catalogue the registry holds; None before the first announcement."""
    found: str | None = await reading.scalar(DIGEST)
    return found


def _type(row: RowMapping) -> NodeType:
    return NodeType(row["manifest"], row["versions"])


def _clean(text: str | None) -> str | None:
    return text.replace("\0", "") if text else text


def _patterns(search: str | None) -> Sequence[str]:
    """A LIKE pattern for each word; the words' own wildcards are plain characters."""
    words = (search or "").replace("\0", " ").lower().split()[:10]
    return [f"%{word.translate(_LITERAL)}%" for word in words]


_LITERAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
