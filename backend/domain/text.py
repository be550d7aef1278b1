"""Text from outside (models, files, events) made fit for the database, which has no NUL and no lone surrogate."""

from typing import Any


def is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def storable(text: str) -> str:
    """The text with what can't be stored replaced by the replacement character."""
    if is_storable(text):
        return text
    return "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in text)


def storable_json(value: Any) -> Any:
    """A JSON value with every text in it, names too, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(name)): storable_json(part) for name, part in value.items()}
    return [storable_json(part) for part in value] if isinstance(value, list) else value
