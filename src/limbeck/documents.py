"""Documents that were read from JSON, made into dataclasses."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from limbeck.errors import BadSetting, unknown


def typed(cls: type, document: Mapping[str, Any], what: str) -> Any:
    """The dataclass `cls` from a document, every key and every type checked; `what` is for the error.

    Raises:
        UnknownName: an unknown key.
        BadSetting: a value of the wrong type, or one that is missing.
    """
    hints = get_type_hints(cls)
    for key, value in document.items():
        if key not in hints:
            raise unknown(what, key, hints)
        if not _fits(value, hints[key]):
            kind = " or ".join("null" if each is type(None) else _plain_type(each).__name__ for each in _kinds(hints[key]))
            raise BadSetting(f"{what} '{key}' must be of type {kind}, not {value!r}")
    try:
        return cls(**document)
    except TypeError as error:
        raise BadSetting(f"incomplete {what}: {error}") from error


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def _plain_type(kind: Any) -> type:
    return get_origin(kind) or kind


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of this type. A whole number is a float too; a truth value is no number."""
    kinds = [_plain_type(kind) for kind in _kinds(hint)]
    return type(value) in kinds or (type(value) is int and float in kinds)
