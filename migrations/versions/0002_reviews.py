"""Reviews: what people gave back, in every version, and what they changed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CHANGES = "change IN ('untouched', 'edited', 'added', 'removed')"


def upgrade() -> None:
    op.create_table(
        "review_feeds",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("seen_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("polled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_review_feeds")),
    )
    op.create_table(
        "review_tasks",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("target", "task_id", name=op.f("pk_review_tasks")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("annotation_id", sa.BigInteger(), nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("publication_id", sa.BigInteger(), nullable=True),
        sa.Column("annotator", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["publication_id"], ["publications.id"], name=op.f("fk_reviews_publication_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
        sa.UniqueConstraint("target", "annotation_id", name=op.f("uq_reviews_target_annotation_id")),
    )
    op.create_index(op.f("ix_reviews_publication_id"), "reviews", ["publication_id"], unique=False)
    op.create_table(
        "review_versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("review_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lead_time_s", sa.Double(), nullable=True),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=True),
        sa.Column("raw", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.id"], name=op.f("fk_review_versions_review_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_versions")),
        sa.UniqueConstraint("review_id", "number", name=op.f("uq_review_versions_review_id_number")),
    )
    op.create_table(
        "track_corrections",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("region_id", sa.Text(), nullable=False),
        sa.Column("change", sa.String(length=16), nullable=False),
        sa.Column("label_before", sa.Text(), nullable=True),
        sa.Column("label_after", sa.Text(), nullable=True),
        sa.Column("touched_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("moved_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("resized_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("shown_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("hidden_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("iou", sa.Double(), nullable=False),
        sa.CheckConstraint(_CHANGES, name=op.f("ck_track_corrections_change")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["review_versions.id"], name=op.f("fk_track_corrections_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "position", name=op.f("pk_track_corrections")),
    )
    op.create_table(
        "mask_corrections",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("region_id", sa.Text(), nullable=False),
        sa.Column("change", sa.String(length=16), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("label_before", sa.Text(), nullable=True),
        sa.Column("label_after", sa.Text(), nullable=True),
        sa.Column("pixels_added", sa.Integer(), nullable=False),
        sa.Column("pixels_removed", sa.Integer(), nullable=False),
        sa.Column("iou", sa.Double(), nullable=False),
        sa.CheckConstraint(_CHANGES, name=op.f("ck_mask_corrections_change")),
        sa.ForeignKeyConstraint(
            ["version_id"], ["review_versions.id"], name=op.f("fk_mask_corrections_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "position", name=op.f("pk_mask_corrections")),
    )


def downgrade() -> None:
    for table in ("mask_corrections", "track_corrections", "review_versions"):
        op.drop_table(table)
    op.drop_index(op.f("ix_reviews_publication_id"), table_name="reviews")
    for table in ("reviews", "review_tasks", "review_feeds"):
        op.drop_table(table)
