"""First tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:

    op.create_table(
        "model_versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("profile_name", sa.String(length=200), nullable=False),
        sa.Column("profile", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("digest", name=op.f("uq_model_versions_digest")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_unsent", "outbox", ["available_at"], unique=False, postgresql_where=sa.text("sent_at IS NULL")
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("label_studio_project_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "videos",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("bucket", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("version", sa.String(length=1024), nullable=False),
        sa.Column("etag", sa.String(length=200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("probe_status", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("probed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("probe_attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("touched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("unreadable_code", sa.String(length=64), nullable=True),
        sa.Column("unreadable_reason", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("frame_count", sa.Integer(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("rotation_deg", sa.Integer(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("has_audio", sa.Boolean(), nullable=True),
        sa.Column("codec", sa.String(length=64), nullable=True),
        sa.Column("time_base_num", sa.Integer(), nullable=True),
        sa.Column("time_base_den", sa.Integer(), nullable=True),
        sa.Column("pts", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "probe_status <> 'ok' OR (frame_count > 0 AND width > 0 AND height > 0 AND pts IS NOT NULL"
            " AND time_base_num > 0 AND time_base_den > 0 AND rotation_deg IN (0, 90, 180, 270))",
            name=op.f("ck_videos_probed"),
        ),
        sa.CheckConstraint(
            "probe_status <> 'unreadable' OR (unreadable_reason IS NOT NULL AND unreadable_code IS NOT NULL)",
            name=op.f("ck_videos_unreadable_reason"),
        ),
        sa.CheckConstraint("probe_status IN ('pending', 'ok', 'unreadable')", name=op.f("ck_videos_probe_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
        sa.UniqueConstraint("bucket", "key", "version", name=op.f("uq_videos_bucket_key_version")),
    )
    op.create_index(op.f("ix_videos_probe_status"), "videos", ["probe_status"], unique=False)
    op.create_index(op.f("ix_videos_sha256"), "videos", ["sha256"], unique=False)
    op.create_table(
        "worker_heartbeats",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker_heartbeats")),
    )
    op.create_table(
        "instructions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_sha256", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("key_prefixes", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("mode IN ('vos', 'avs')", name=op.f("ck_instructions_mode")),
        sa.CheckConstraint("length(text) BETWEEN 1 AND 100000", name=op.f("ck_instructions_text_length")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_instructions_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instructions")),
        sa.UniqueConstraint(
            "project_id", "mode", "text_sha256", name=op.f("uq_instructions_project_id_mode_text_sha256")
        ),
    )
    op.create_index(op.f("ix_instructions_project_id"), "instructions", ["project_id"], unique=False)
    op.create_table(
        "project_sources",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.String(length=63), nullable=False),
        sa.Column("prefix", sa.String(length=1024), nullable=False),
        sa.Column("listed_until_key", sa.String(length=1024), nullable=True),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_project_sources_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_sources")),
        sa.UniqueConstraint("project_id", "bucket", "prefix", name=op.f("uq_project_sources_project_id_bucket_prefix")),
    )
    op.create_index(op.f("ix_project_sources_bucket"), "project_sources", ["bucket"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("video_id", sa.BigInteger(), nullable=False),
        sa.Column("instruction_id", sa.BigInteger(), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("config_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("stage_progress", sa.Float(), server_default="0", nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome_code", sa.String(length=64), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=True),
        sa.Column("reasoning", sa.Text(), nullable=True),
        sa.Column("raw_output", sa.Text(), nullable=True),
        sa.Column("timings_s", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("warnings", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.CheckConstraint("status <> 'failed' OR outcome_reason IS NOT NULL", name=op.f("ck_runs_failed_has_reason")),
        sa.CheckConstraint(
            "status <> 'running' OR lease_expires_at IS NOT NULL", name=op.f("ck_runs_running_has_lease")
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'no_target', 'failed', 'quarantined', 'cancelled')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(["instruction_id"], ["instructions.id"], name=op.f("fk_runs_instruction_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name=op.f("fk_runs_model_version_id")),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_runs_video_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("video_id", "instruction_id", "model_version_id", "config_digest", name="uq_runs_identity"),
    )
    op.create_index(op.f("ix_runs_instruction_id"), "runs", ["instruction_id"], unique=False)
    op.create_index(
        "ix_runs_lease", "runs", ["lease_expires_at"], unique=False, postgresql_where=sa.text("status = 'running'")
    )
    op.create_index(op.f("ix_runs_model_version_id"), "runs", ["model_version_id"], unique=False)
    op.create_index("ix_runs_status_queued_at", "runs", ["status", "queued_at"], unique=False)
    op.create_table(
        "keyframes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("time_s", sa.Double(), nullable=False),
        sa.Column("segment_start_s", sa.Double(), nullable=False),
        sa.Column("segment_end_s", sa.Double(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("image_key", sa.String(length=1024), nullable=False),
        sa.CheckConstraint("frame_index >= 0", name=op.f("ck_keyframes_frame_index")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_keyframes_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keyframes")),
        sa.UniqueConstraint("run_id", "frame_index", name=op.f("uq_keyframes_run_id_frame_index")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_keyframes_run_id_position")),
    )
    op.create_table(
        "publications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("task_id", sa.BigInteger(), nullable=True),
        sa.Column("prediction_id", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'published', 'failed')", name=op.f("ck_publications_state")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_publications_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publications")),
        sa.UniqueConstraint("run_id", "target", name=op.f("uq_publications_run_id_target")),
    )
    op.create_index(op.f("ix_publications_state"), "publications", ["state"], unique=False)
    op.create_table(
        "tracks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("box_keyframes", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_tracks_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tracks")),
        sa.UniqueConstraint("run_id", "index", name=op.f("uq_tracks_run_id_index")),
    )
    op.create_table(
        "detections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("keyframe_id", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("x1", sa.Double(), nullable=False),
        sa.Column("y1", sa.Double(), nullable=False),
        sa.Column("x2", sa.Double(), nullable=False),
        sa.Column("y2", sa.Double(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("track_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("x1 < x2 AND y1 < y2", name=op.f("ck_detections_box")),
        sa.ForeignKeyConstraint(
            ["keyframe_id"], ["keyframes.id"], name=op.f("fk_detections_keyframe_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], name=op.f("fk_detections_track_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_detections")),
        sa.UniqueConstraint("keyframe_id", "index", name=op.f("uq_detections_keyframe_id_index")),
    )
    op.create_index(op.f("ix_detections_track_id"), "detections", ["track_id"], unique=False)
    op.create_table(
        "masks",
        sa.Column("track_id", sa.BigInteger(), nullable=False),
        sa.Column("frame_index", sa.Integer(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("area", sa.BigInteger(), nullable=False),
        sa.Column("x1", sa.Integer(), nullable=False),
        sa.Column("y1", sa.Integer(), nullable=False),
        sa.Column("x2", sa.Integer(), nullable=False),
        sa.Column("y2", sa.Integer(), nullable=False),
        sa.CheckConstraint("area > 0", name=op.f("ck_masks_area")),
        sa.ForeignKeyConstraint(["track_id"], ["tracks.id"], name=op.f("fk_masks_track_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("track_id", "frame_index", name=op.f("pk_masks")),
    )


def downgrade() -> None:

    op.drop_table("masks")
    op.drop_index(op.f("ix_detections_track_id"), table_name="detections")
    op.drop_table("detections")
    op.drop_table("tracks")
    op.drop_index(op.f("ix_publications_state"), table_name="publications")
    op.drop_table("publications")
    op.drop_table("keyframes")
    op.drop_index("ix_runs_status_queued_at", table_name="runs")
    op.drop_index(op.f("ix_runs_model_version_id"), table_name="runs")
    op.drop_index("ix_runs_lease", table_name="runs", postgresql_where=sa.text("status = 'running'"))
    op.drop_index(op.f("ix_runs_instruction_id"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_project_sources_bucket"), table_name="project_sources")
    op.drop_table("project_sources")
    op.drop_index(op.f("ix_instructions_project_id"), table_name="instructions")
    op.drop_table("instructions")
    op.drop_table("worker_heartbeats")
    op.drop_index(op.f("ix_videos_sha256"), table_name="videos")
    op.drop_index(op.f("ix_videos_probe_status"), table_name="videos")
    op.drop_table("videos")
    op.drop_table("projects")
    op.drop_index("ix_outbox_unsent", table_name="outbox", postgresql_where=sa.text("sent_at IS NULL"))
    op.drop_table("outbox")
    op.drop_table("model_versions")
