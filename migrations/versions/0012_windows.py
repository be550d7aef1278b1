"""Windows: long videos are shown in parts, each with a rendition and a task of its own."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TABLES = ("publications", "renditions")
_WINDOW = ("window_first_frame", "window_frame_count")


def upgrade() -> None:
    op.add_column("projects", sa.Column("window_s", sa.Double(), server_default="0", nullable=False))
    op.create_check_constraint(op.f("ck_projects_window_s"), "projects", "window_s >= 0")
    for table in _TABLES:
        for column in _WINDOW:
            op.add_column(table, sa.Column(column, sa.Integer(), nullable=True))
        both = "(window_first_frame IS NULL) = (window_frame_count IS NULL)"
        op.create_check_constraint(op.f(f"ck_{table}_window"), table, both)
    op.drop_constraint(op.f("uq_publications_run_id_target_layer_id"), "publications", type_="unique")
    op.create_unique_constraint(
        op.f("uq_publications_once"), "publications", ["run_id", "target", "layer_id", *_WINDOW],
        postgresql_nulls_not_distinct=True,
    )  # fmt: skip
    op.drop_constraint(op.f("pk_renditions"), "renditions", type_="primary")
    op.add_column("renditions", sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False))
    op.create_primary_key(op.f("pk_renditions"), "renditions", ["id"])
    op.create_unique_constraint(
        op.f("uq_renditions_once"), "renditions", ["video_id", *_WINDOW], postgresql_nulls_not_distinct=True
    )


def downgrade() -> None:
    # What was shown in parts can't be told as if it were of the whole; what people said of it stays (`reviews`).
    for table in _TABLES:
        op.execute(f"DELETE FROM {table} WHERE window_first_frame IS NOT NULL")
    op.drop_constraint(op.f("uq_renditions_once"), "renditions", type_="unique")
    op.drop_constraint(op.f("pk_renditions"), "renditions", type_="primary")
    op.drop_column("renditions", "id")
    op.create_primary_key(op.f("pk_renditions"), "renditions", ["video_id"])
    op.drop_constraint(op.f("uq_publications_once"), "publications", type_="unique")
    op.create_unique_constraint(
        op.f("uq_publications_run_id_target_layer_id"), "publications", ["run_id", "target", "layer_id"],
        postgresql_nulls_not_distinct=True,
    )  # fmt: skip
    for table in _TABLES:
        op.drop_constraint(op.f(f"ck_{table}_window"), table, type_="check")
        for column in _WINDOW:
            op.drop_column(table, column)
    op.drop_column("projects", "window_s")
