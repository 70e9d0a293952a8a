"""What can go wrong in an expression, and how much one may cost."""

from __future__ import annotations

from typing import Self


class ExpressionError(ValueError):
    """An expression that cannot be read, checked or evaluated.

    `position` is the offset (in characters, from 0) in the string that holds the expression, -1 when unknown;
    `pointer` is the JSON pointer (RFC 6901) of that string in the parameters. `code` is one of `expression.syntax`,
    `.type`, `.template`, `.too_large`, `.no_such_key`, `.no_such_overload`, `.overflow`, `.division_by_zero`,
    `.out_of_range`, `.bad_argument`, `.limit`.
    """

    def __init__(self, message: str, *, code: str = "bad_argument", position: int = -1, pointer: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = f"expression.{code}"
        self.position = position
        self.pointer = pointer

    def at(self, position: int) -> Self:
        """The same error, placed; the innermost place wins."""
        if self.position < 0:
            self.position = position
        return self

    def placed(self, offset: int, pointer: str) -> ExpressionError:
        """A copy for a template: the position moved by the expression's start, and the pointer of its string."""
        copy = type(self)(self.message, position=max(self.position, 0) + offset, pointer=pointer)
        copy.code = self.code
        return copy


class ExpressionLimit(ExpressionError):
    """The budget ran out. Never absorbed by `&&`, `||`, `exists` or `all`."""

    def __init__(self, message: str, *, code: str = "limit", position: int = -1, pointer: str = "") -> None:
        super().__init__(message, code=code, position=position, pointer=pointer)


OPERATIONS = 150_000
"""Default budget of one evaluation, in visited nodes of the syntax tree: about 20 ms of one core."""
BYTES = 16 * 1024 * 1024
"""Default budget of bytes made (strings as their length, list and map slots as 16)."""
NESTING = 64
"""How deep values that are compared or formatted may nest."""


class Budget:
    """What evaluations may still cost. One budget may serve many evaluations (all items of a step, say)."""

    __slots__ = ("bytes", "operations")

    def __init__(self, operations: int = OPERATIONS, bytes: int = BYTES) -> None:
        self.operations = operations
        self.bytes = bytes

    def spend(self, operations: int) -> None:
        self.operations -= operations
        if self.operations < 0:
            raise ExpressionLimit("This expression takes too many operations.")

    def make(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise ExpressionLimit("This expression makes too much data.")
