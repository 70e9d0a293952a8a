"""The survey says of an expression what compiling it says, though it compiles only where it must."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from subgraphs.engine.expression import ExpressionError, compiled, survey

WORDS = (
    "item", "items", "nodes", "nodes.a.item", "nodes.b1.items", "nodes.c.other", "nodes['a']", "execution.id",
    "execution.none", "now", "vars.key", "trigger", "unknown", "true", "null", "in", "for", ".x", ".nodes.a.item",
    ".in", ".while", ".size()", ".matches('[')", ".map(e, e + 1)", ".startsWith('a')", "size(item)", "has(item.x)",
    "has(nodes.a)", "timestamp('x')", "int", "int.x", "now.x", "1", "12345678901234567890", "1.5", "2u", "'text'",
    '"te\'xt"', "'nodes.z.item'", "'''", '"', "r'a'", "b'a'", "\\", "// nodes.q.item", "+", "-", "*", "/", "%", "<",
    "==", "&&", "||", "?", ":", "!", "[", "]", "(", ")", "{", "}", ",", " ", "\n", "\u00e9",
)  # fmt: skip
OPERANDS = (
    "item.x", "item.n", "1", "'a'", "2.5", "items[0].y", "nodes.a.item.n", "nodes.b1.items[3]", "size(items)", "now",
    "execution.id", "(item.a + 1)", "item.list.map(e, e)", "vars.v.matches('a+')", "has(item.x)", "[1, item.x]",
    "nodes.a", "true", "item.name.size()",
)  # fmt: skip
OPERAND = st.sampled_from(OPERANDS)
OPERATOR = st.sampled_from((" + ", " - ", " == ", " && ", " in ", " < ", ".x + ", " ? 1 : "))


@st.composite
def sums(draw: st.DrawFn) -> str:
    first, others = draw(OPERAND), draw(st.lists(st.tuples(OPERATOR, OPERAND), max_size=4))
    return first + "".join(operator + operand for operator, operand in others)


@settings(max_examples=600, deadline=None)
@example('"""a" + nodes.z.item + "b"""')
@example("'''a' + nodes.z.item + 'b'''")
@example("item.nodes.a.item")
@example("nodes . a . item")
@example("(nodes).a.item")
@example("item.in + 1")
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map("".join) | sums())
def test_survey_and_compilation_agree(source: str) -> None:
    parameters = {"value": "{{ " + source + " }}"}
    faults, nodes = survey(parameters)
    if faults:
        with pytest.raises(ExpressionError) as caught:
            compiled(parameters)
        first, raised = faults[0], caught.value
        assert (first.code, first.message) == (raised.code, raised.message)
        assert (first.position, first.pointer) == (raised.position, raised.pointer)
    else:
        assert nodes == compiled(parameters).nodes


@pytest.mark.parametrize("count", [1, 200])
def test_expressions_of_one_form_are_told_apart(count: int) -> None:
    """One verdict for a form is no verdict for what differs: here a member that is a reserved word, and a reference."""
    for number in range(count):
        faults, nodes = survey({"value": f"{{{{ nodes.n{number}.item.x{number} + {number} }}}}"})
        assert (faults, nodes) == ([], frozenset({f"n{number}"}))
    assert survey({"value": "{{ nodes.n1.item.for + 1 }}"})[0] == survey({"value": "{{ nodes.n1.item.for + 1 }}"})[0]
    assert survey({"value": "{{ nodes.n1.item.in + 1 }}"})[0] != []
