"""Data sets and the sides of source videos, which no statement can change or remove."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

FROZEN_TABLES = ("source_videos", "datasets", "dataset_items")

REFUSE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is frozen: its rows are never changed nor removed', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$
"""

# A data set's items are written with it, in one transaction: none is added to one that is there already.
REFUSE_LATE_ITEM = """
CREATE FUNCTION refuse_late_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM datasets WHERE id = NEW.dataset_id AND xmin = pg_current_xact_id()::xid
    ) THEN
        RAISE EXCEPTION 'data set % is frozen: nothing is added to it', NEW.dataset_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "source_videos",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("twin_of", sa.String(length=64), nullable=True),
        sa.Column("frame_hashes", sa.LargeBinary(), nullable=False),
        sa.Column("media_key", sa.String(length=1024), nullable=False),
        sa.Column("media_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_uri", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("split IN ('train', 'holdout', 'neither')", name=op.f("ck_source_videos_split")),
        sa.ForeignKeyConstraint(["twin_of"], ["source_videos.sha256"], name=op.f("fk_source_videos_twin_of")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_source_videos")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("parent_digest", sa.String(length=64), nullable=True),
        sa.Column("origin", sa.String(length=64), nullable=False),
        sa.Column("query", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("files", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("code_version", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.UniqueConstraint("digest", name=op.f("uq_datasets_digest")),
        sa.ForeignKeyConstraint(["parent_digest"], ["datasets.digest"], name=op.f("fk_datasets_parent_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_table(
        "dataset_items",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("item_id", sa.String(length=64), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("review_version_id", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("split IN ('train', 'holdout')", name=op.f("ck_dataset_items_split")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_dataset_items_dataset_id")),
        sa.ForeignKeyConstraint(
            ["source_sha256"], ["source_videos.sha256"], name=op.f("fk_dataset_items_source_sha256")
        ),
        sa.PrimaryKeyConstraint("dataset_id", "position", name=op.f("pk_dataset_items")),
        sa.UniqueConstraint("dataset_id", "item_id", name=op.f("uq_dataset_items_dataset_id_item_id")),
    )
    op.create_index(op.f("ix_dataset_items_item_id"), "dataset_items", ["item_id"], unique=False)
    op.create_index(op.f("ix_dataset_items_source_sha256"), "dataset_items", ["source_sha256"], unique=False)
    op.execute(REFUSE)
    op.execute(REFUSE_LATE_ITEM)
    for table in FROZEN_TABLES:
        op.execute(
            f"CREATE TRIGGER frozen_rows BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER frozen_table BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        "CREATE TRIGGER no_late_item BEFORE INSERT ON dataset_items FOR EACH ROW EXECUTE FUNCTION refuse_late_item()"
    )


def downgrade() -> None:
    op.drop_table("dataset_items")
    op.drop_table("datasets")
    op.drop_table("source_videos")
    op.execute("DROP FUNCTION refuse_late_item()")
    op.execute("DROP FUNCTION refuse_change()")
