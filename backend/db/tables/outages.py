"""How the labeling tool is doing, as its callers found it: a row for the server, and one for a project of it."""

from sqlalchemy import CheckConstraint, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.db.tables.base import Base, Moment

STATES = ("ok", "away", "busy", "failing", "key_refused", "project_gone", "project_wrong")


class LabelingState(Base):
    """`target`: `label_studio` (the server) or `label_studio:<project id>`. While the state isn't `ok` nobody asks
    before `next_try_at`, and then one at a time (`probing_until`). `failures`: in a row; `detail`: the last one's
    words."""

    __tablename__ = "labeling_states"
    __table_args__ = (CheckConstraint(f"state IN ({', '.join(map(repr, STATES))})", name="state"),)

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), server_default="ok")
    since: Mapped[Moment | None]
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    detail: Mapped[str | None] = mapped_column(Text)
    next_try_at: Mapped[Moment | None]
    probing_until: Mapped[Moment | None]
