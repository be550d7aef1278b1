"""Text from outside (models, files, events) made fit for the database, which has no NUL and no lone surrogate."""


def is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def storable(text: str) -> str:
    """The text with what can't be stored replaced by the replacement character."""
    if is_storable(text):
        return text
    return "".join("\ufffd" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in text)
