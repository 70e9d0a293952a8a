"""What came in by a form: read as its fields mean it, and checked by their JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

MOST_FIELDS = 200


def pairs(body: bytes) -> dict[str, str]:
    """A urlencoded form; raises ValueError for what is none. Of a name that comes twice the last counts."""
    return dict(
        parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MOST_FIELDS, strict_parsing=False)
    )


def typed(schema: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Texts of a form as the types of the fields; what does not read as its type stays text, for the check to say."""
    found: dict[str, Any] = {}
    for name, kind in (schema.get("properties") or {}).items():
        text, type = given.get(name), kind.get("type")
        if type == "boolean":
            found[name] = text == "true"
        elif text is not None and text != "":
            found[name] = _read(type, kind.get("enum"), text)
    return found


def _read(type: Any, options: Any, text: str) -> Any:
    for option in options or ():
        if str(option) == text:
            return option
    try:
        return int(text) if type == "integer" else float(text) if type == "number" else text
    except ValueError:
        return text


def faults(schema: Mapping[str, Any], data: Any) -> dict[str, str]:
    """What is wrong, by field; under the empty name what concerns the whole. Empty when all is well."""
    try:
        Draft202012Validator.check_schema(dict(schema))
        errors = list(Draft202012Validator(dict(schema)).iter_errors(data))
    except SchemaError as fault:
        return {"": f"The form's fields are not described soundly: {fault.message[:200]}"}
    found: dict[str, str] = {}
    for error in errors:
        name = str(error.absolute_path[0]) if error.absolute_path else ""
        if error.validator == "required" and not name:
            missing = [each for each in error.validator_value if not isinstance(data, dict) or each not in data]
            found.update(dict.fromkeys(missing, "This field is needed."))
        else:
            found.setdefault(name, error.message[:200])
    return found
