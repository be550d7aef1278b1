"""Renditions: what is shown in place of videos that a browser shows wrongly. Videos of before are looked at when
something of them is next published."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "renditions",
        sa.Column("video_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("key", sa.String(length=1024), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("fps_num", sa.Integer(), nullable=True),
        sa.Column("fps_den", sa.Integer(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'ready', 'not_needed', 'failed')", name=op.f("ck_renditions_state")),
        sa.CheckConstraint(
            "state <> 'ready' OR (key IS NOT NULL AND sha256 IS NOT NULL AND size_bytes IS NOT NULL"
            " AND fps_num > 0 AND fps_den > 0)",
            name=op.f("ck_renditions_ready"),
        ),
        sa.CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name=op.f("ck_renditions_failed_has_problem")),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_renditions_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("video_id", name=op.f("pk_renditions")),
    )
    op.create_index(op.f("ix_renditions_state"), "renditions", ["state"])
    op.create_index(op.f("ix_renditions_key"), "renditions", ["key"])


def downgrade() -> None:
    op.drop_table("renditions")
