"""JSON bodies as Go's decoder reads them, for clients written against Docker.

Go ignores the case of field names and treats ``null`` as "not given" for every type; Docker's string lists accept a bare
string. A body is decoded to plain values, adapted along the model's type, and only then converted, strictly.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from boxship.base.errors import InvalidInput

T = TypeVar("T")

_types: dict[type, inspect.Type] = {}  # cache: msgspec takes a millisecond to describe a large model
INT64 = range(-(1 << 63), 1 << 63)


def decode(body: bytes, model: type[T]) -> T:
    """Return ``body`` as ``model``. Raises InvalidInput with Docker's "invalid JSON: ..."."""
    try:
        return msgspec.convert(adapt(msgspec.json.decode(body), _type_info(model)), model)
    except (msgspec.DecodeError, UnicodeError) as exc:  # ValidationError is a DecodeError
        raise InvalidInput(f"invalid JSON: {exc}") from exc
    except RecursionError as exc:
        raise InvalidInput("invalid JSON: exceeded max depth") from exc


def _type_info(model: type) -> inspect.Type:
    if model not in _types:
        _types[model] = inspect.type_info(model)
    return _types[model]


def adapt(value: Any, type: inspect.Type) -> Any:
    """Return ``value`` with names, nulls and bare strings brought into the form that ``type`` asks for."""
    if isinstance(value, int) and value not in INT64:
        raise InvalidInput(f"invalid JSON: number {value} is out of range")
    match type:
        case inspect.UnionType(types=types):
            return adapt(value, _member(types, value))
        case inspect.StructType(fields=fields) if isinstance(value, dict):
            return _adapt_struct(value, fields)
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            return {key: adapt(_zero(inner) if item is None else item, inner) for key, item in value.items()}
        case inspect.ListType(item_type=inner) if isinstance(value, list):
            return [adapt(_zero(inner) if item is None else item, inner) for item in value]
        case inspect.ListType() if isinstance(value, str):
            return [value]
    return value


def _adapt_struct(value: dict[str, Any], fields: tuple[inspect.Field, ...]) -> dict[str, Any]:
    exact = {field.encode_name: field for field in fields}
    folded = {field.encode_name.lower(): field for field in fields}
    adapted = {}
    for key, item in value.items():
        field = exact.get(key) or folded.get(key.lower())
        if field is not None and item is not None:
            adapted[field.encode_name] = adapt(item, field.type)
    return adapted


def _member(types: tuple[inspect.Type, ...], value: Any) -> inspect.Type:
    """Return the member of a union that a value of this JSON kind means; a list wins over a string for a string."""
    wanted: tuple[type[inspect.Type], ...]
    if isinstance(value, dict):
        wanted = (inspect.StructType, inspect.DictType)
    elif isinstance(value, list) or (isinstance(value, str) and any(isinstance(t, inspect.StrType) for t in types)):
        wanted = (inspect.ListType, inspect.StrType)
    else:
        wanted = ()
    for kind in wanted:
        for member in types:
            if isinstance(member, kind):
                return member
    return types[0] if value is not None else inspect.NoneType()


def _zero(type: inspect.Type) -> Any:
    """Return what ``null`` means for an item of a list or map: None where the type has it, else Go's zero value."""
    match type:
        case inspect.UnionType(includes_none=True) | inspect.AnyType():
            return None
        case inspect.StrType():
            return ""
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return 0
        case inspect.ListType():
            return []
    return {}
