"""Corrected layers, with tracks and masks of their own; a publication may be of one. How the labeling tool is doing."""

from collections.abc import Sequence
from importlib import import_module

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

LEDGER: str = import_module("migrations.versions.0003_assistance_ledger").LEDGER

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

#: As in 0003; of corrected layers that were sent as predictions reviews are told apart, and so are those of tasks that
#: had no prediction.
_LEDGER_WITH_CONTROL = LEDGER.replace(
    "masks.pixels_added, masks.pixels_removed, masks.mask_iou\n",
    "masks.pixels_added, masks.pixels_removed, masks.mask_iou,\n"
    "    publication.layer_id IS NOT NULL AS of_layer, publication.control\n",
)
#: Every mask of a layer: its own on changed frames, the run's on all others.
MASKS = """
CREATE VIEW corrected_layer_masks AS
SELECT track.layer_id, track.id AS track_id, track.index AS track_index, mask.frame_index, mask.source,
    mask.counts, mask.area, mask.x1, mask.y1, mask.x2, mask.y2
FROM corrected_tracks AS track
JOIN corrected_masks AS mask ON mask.track_id = track.id
UNION ALL
SELECT track.layer_id, track.id, track.index, mask.frame_index, 'kept',
    mask.counts, mask.area, mask.x1, mask.y1, mask.x2, mask.y2
FROM corrected_tracks AS track
JOIN masks AS mask ON mask.track_id = track.kept_track_id AND NOT track.changed @> mask.frame_index
WHERE track.change <> 'removed'
"""


def upgrade() -> None:
    op.add_column("review_versions", sa.Column("context", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column(
        "projects", sa.Column("show_corrected", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("projects", sa.Column("control_share", sa.Double(), server_default="0", nullable=False))
    op.create_check_constraint(op.f("ck_projects_control_share"), "projects", "control_share BETWEEN 0 AND 1")
    op.add_column("publications", sa.Column("control", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "corrected_layers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("model_version_id", sa.BigInteger(), nullable=True),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("timings_s", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'ready', 'superseded', 'failed')", name=op.f("ck_corrected_layers_state")
        ),
        sa.CheckConstraint(
            "state <> 'running' OR lease_expires_at IS NOT NULL", name=op.f("ck_corrected_layers_running_has_lease")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["review_versions.id"], name=op.f("fk_corrected_layers_version_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_corrected_layers_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_corrected_layers_model_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corrected_layers")),
        sa.UniqueConstraint("version_id", name=op.f("uq_corrected_layers_version_id")),
    )
    op.create_index(op.f("ix_corrected_layers_run_id"), "corrected_layers", ["run_id"])
    op.create_index(op.f("ix_corrected_layers_model_version_id"), "corrected_layers", ["model_version_id"])
    op.create_index(
        "ix_corrected_layers_open", "corrected_layers", ["state"],
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )  # fmt: skip
    op.create_table(
        "corrected_tracks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("layer_id", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("kept_track_id", sa.BigInteger(), nullable=True),
        sa.Column("region_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("change", sa.String(length=16), nullable=False),
        sa.Column("changed", postgresql.INT4MULTIRANGE(), nullable=False),
        sa.Column("drawn_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("boxed_frames", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("box_keyframes", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.CheckConstraint(
            "change IN ('untouched', 'edited', 'added', 'removed')", name=op.f("ck_corrected_tracks_change")
        ),
        sa.ForeignKeyConstraint(
            ["layer_id"], ["corrected_layers.id"], name=op.f("fk_corrected_tracks_layer_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["kept_track_id"], ["tracks.id"], name=op.f("fk_corrected_tracks_kept_track_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_corrected_tracks")),
        sa.UniqueConstraint("layer_id", "index", name=op.f("uq_corrected_tracks_layer_id_index")),
    )
    op.create_index(op.f("ix_corrected_tracks_kept_track_id"), "corrected_tracks", ["kept_track_id"])
    op.create_table(
        "corrected_masks",
        sa.Column("track_id", sa.BigInteger(), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("area", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("x1", "y1", "x2", "y2")),
        sa.CheckConstraint("area > 0", name=op.f("ck_corrected_masks_area")),
        sa.CheckConstraint("source IN ('drawn', 'carried')", name=op.f("ck_corrected_masks_source")),
        sa.ForeignKeyConstraint(
            ["track_id"], ["corrected_tracks.id"], name=op.f("fk_corrected_masks_track_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("track_id", "frame_index", name=op.f("pk_corrected_masks")),
    )
    op.execute(MASKS)
    op.create_table(
        "labeling_states",
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="ok", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probing_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('ok', 'away', 'busy', 'failing', 'key_refused', 'project_gone', 'project_wrong')",
            name=op.f("ck_labeling_states_state"),
        ),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_labeling_states")),
    )
    op.add_column("publications", sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE publications SET tried_at = created_at")
    op.create_index(op.f("ix_publications_task_id"), "publications", ["task_id"])
    op.add_column("publications", sa.Column("layer_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_publications_layer_id"), "publications", "corrected_layers", ["layer_id"], ["id"], ondelete="CASCADE"
    )
    op.create_index(op.f("ix_publications_layer_id"), "publications", ["layer_id"])
    op.drop_constraint(op.f("uq_publications_run_id_target"), "publications", type_="unique")
    op.create_unique_constraint(
        op.f("uq_publications_run_id_target_layer_id"), "publications", ["run_id", "target", "layer_id"],
        postgresql_nulls_not_distinct=True,
    )  # fmt: skip
    op.execute("DROP VIEW assistance_ledger")
    op.execute(_LEDGER_WITH_CONTROL)


def downgrade() -> None:
    op.execute("DROP VIEW assistance_ledger")
    op.execute(LEDGER)
    op.execute("DELETE FROM publications WHERE layer_id IS NOT NULL")
    op.drop_constraint(op.f("uq_publications_run_id_target_layer_id"), "publications", type_="unique")
    op.create_unique_constraint(op.f("uq_publications_run_id_target"), "publications", ["run_id", "target"])
    op.drop_column("publications", "layer_id")
    op.drop_index(op.f("ix_publications_task_id"), table_name="publications")
    op.drop_column("publications", "tried_at")
    op.drop_table("labeling_states")
    op.execute("DROP VIEW corrected_layer_masks")
    for table in ("corrected_masks", "corrected_tracks", "corrected_layers"):
        op.drop_table(table)
    op.drop_column("publications", "control")
    op.drop_column("projects", "control_share")
    op.drop_column("projects", "show_corrected")
    op.drop_column("review_versions", "context")
