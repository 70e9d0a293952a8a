"""Ids as clients send them, turned into UUIDs or into a problem that names the field."""

from uuid import UUID


class MalformedId(ValueError):
    """The text is not an id of ours. Describes itself as Invalid."""

    kind = "Invalid"
    code = "id_malformed"

    def __init__(self, field: str) -> None:
        self.message = "This is not an id."
        self.field: str | None = field
        self.next_step: str | None = "Send an id exactly as an answer of this graph gave it."
        super().__init__(f"{field}: {self.message}")


def parse_id(text: object, field: str = "id") -> UUID:
    """The UUID written as 36 characters with dashes; raises MalformedId (an Invalid naming `field`) for anything else.

    The other spellings that `uuid.UUID` takes (braces, `urn:`, no dashes) are refused: one id has one spelling.
    """
    if isinstance(text, str) and len(text) == 36:
        try:
            found = UUID(text)
        except ValueError:
            pass
        else:
            if str(found) == text.lower():
                return found
    raise MalformedId(field)
