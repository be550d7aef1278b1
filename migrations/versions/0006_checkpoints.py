"""Checkpoints of running runs: decisions, the segmenter's ways, and masks by detection until they become tracks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _run_id(table: str) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    name = op.f(f"fk_{table}_run_id")
    return (
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=name, ondelete="CASCADE"),
    )


def upgrade() -> None:
    op.create_table(
        "run_checkpoints",
        *_run_id("run_checkpoints"),
        sa.Column("decision", sa.LargeBinary(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_checkpoints")),
    )
    op.create_table(
        "run_ways",
        *_run_id("run_ways"),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("done BETWEEN 0 AND steps", name=op.f("ck_run_ways_done")),
        sa.PrimaryKeyConstraint("run_id", "round", "number", name=op.f("pk_run_ways")),
    )
    # Floating point numbers: trying to compress them would only cost time.
    op.execute("ALTER TABLE run_ways ALTER COLUMN state SET STORAGE EXTERNAL")
    op.create_table(
        "carried_masks",
        *_run_id("carried_masks"),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("detection", sa.Integer(), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("area", sa.Integer(), nullable=False),
        sa.Column("x1", sa.Integer(), nullable=False),
        sa.Column("y1", sa.Integer(), nullable=False),
        sa.Column("x2", sa.Integer(), nullable=False),
        sa.Column("y2", sa.Integer(), nullable=False),
        sa.Column("predicted_iou", sa.Float(), nullable=False),
        sa.CheckConstraint("area > 0", name=op.f("ck_carried_masks_area")),
        sa.PrimaryKeyConstraint("run_id", "round", "detection", "frame_index", name=op.f("pk_carried_masks")),
    )


def downgrade() -> None:
    for table in ("carried_masks", "run_ways", "run_checkpoints"):
        op.drop_table(table)
