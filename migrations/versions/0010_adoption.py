"""Projects of the labeling tool that somebody else made; and in which order people are to see tasks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("adoption", postgresql.JSONB(), nullable=True))
    # Projects that are there were made to show the oldest task first.
    op.add_column("projects", sa.Column("task_order", sa.String(length=16), server_default="oldest", nullable=True))
    op.alter_column("projects", "task_order", server_default="uncertain")
    op.create_check_constraint(
        op.f("ck_projects_task_order"), "projects", "task_order IN ('uncertain', 'oldest', 'newest')"
    )
    op.add_column("instructions", sa.Column("label", sa.Text(), nullable=True))
    op.create_table(
        "adopted_tasks",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("video_uri", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("video_id", sa.BigInteger(), nullable=True),
        sa.Column("instruction_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_adopted_tasks_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["video_id"], ["videos.id"], name=op.f("fk_adopted_tasks_video_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["instruction_id"], ["instructions.id"], name=op.f("fk_adopted_tasks_instruction_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("project_id", "task_id", name=op.f("pk_adopted_tasks")),
    )
    for column in ("video_uri", "video_id", "instruction_id"):
        op.create_index(op.f(f"ix_adopted_tasks_{column}"), "adopted_tasks", [column])


def downgrade() -> None:
    op.drop_table("adopted_tasks")
    op.drop_column("instructions", "label")
    op.drop_column("projects", "task_order")
    op.drop_column("projects", "adoption")
