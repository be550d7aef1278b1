"""What all nouns share: pages and problems."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Row(BaseModel):
    """An answer made from a table's row."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[Item]):
    """`next_cursor` is handed back as `cursor` for what follows; None: that was all."""

    items: list[Item]
    next_cursor: str | None


class Problem(BaseModel):
    """RFC 9457. `code` is stable and machine readable."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str


class Health(BaseModel):
    """Each part outside the process: `ok`, or what is wrong with it."""

    status: str
    parts: dict[str, str]
