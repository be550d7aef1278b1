"""Verdicts of the gate, promotions, pinned projects, and runs in the shadow of others."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_IDENTITY = ["video_id", "instruction_id", "model_version_id", "config_digest"]

IMMUTABLE = """
CREATE FUNCTION promotions_are_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'promotions are history: write a new row';
END $$;
CREATE TRIGGER promotions_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions
FOR EACH STATEMENT EXECUTE FUNCTION promotions_are_history();
"""

COMPARISONS = """
CREATE VIEW shadow_comparisons AS
SELECT
    shadow.id AS shadow_run_id, run.id AS run_id, project.name AS project, instruction.id AS instruction_id,
    instruction.mode, run.video_id, champion.profile_name,
    champion.digest AS champion_digest, challenger.digest AS challenger_digest,
    run.status AS champion_status, shadow.status AS challenger_status,
    (SELECT count(*) FROM keyframes WHERE run_id = run.id) AS champion_keyframes,
    (SELECT count(*) FROM keyframes WHERE run_id = shadow.id) AS challenger_keyframes,
    (SELECT count(*) FROM tracks WHERE run_id = run.id) AS champion_tracks,
    (SELECT count(*) FROM tracks WHERE run_id = shadow.id) AS challenger_tracks,
    extract(epoch FROM run.finished_at - run.started_at)::double precision AS champion_s,
    extract(epoch FROM shadow.finished_at - shadow.started_at)::double precision AS challenger_s,
    shadow.finished_at
FROM runs AS shadow
JOIN runs AS run ON run.video_id = shadow.video_id AND run.instruction_id = shadow.instruction_id
    AND run.config_digest = shadow.config_digest AND NOT run.shadow
JOIN instructions AS instruction ON instruction.id = run.instruction_id
JOIN projects AS project ON project.id = instruction.project_id
JOIN model_versions AS champion ON champion.id = run.model_version_id
JOIN model_versions AS challenger ON challenger.id = shadow.model_version_id
WHERE shadow.shadow AND champion.id <> challenger.id AND champion.profile_name = challenger.profile_name
    AND run.status IN ('succeeded', 'no_target') AND shadow.status IN ('succeeded', 'no_target')
"""


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("parent_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "model_versions",
        sa.Column("origin", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
    )
    op.create_foreign_key(
        op.f("fk_model_versions_parent_id"), "model_versions", "model_versions", ["parent_id"], ["id"]
    )
    op.add_column("projects", sa.Column("model_version_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_projects_model_version_id"), "projects", "model_versions", ["model_version_id"], ["id"]
    )
    op.add_column("runs", sa.Column("shadow", sa.Boolean(), server_default="false", nullable=False))
    op.drop_constraint("uq_runs_identity", "runs")
    op.create_unique_constraint("uq_runs_identity", "runs", [*_IDENTITY, "shadow"])
    _make_verdicts()
    _make_promotions()
    op.execute(IMMUTABLE)
    op.execute(COMPARISONS)


def _make_verdicts() -> None:
    op.create_table(
        "verdicts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("candidate_id", sa.BigInteger(), nullable=False),
        sa.Column("champion_id", sa.BigInteger(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("page_key", sa.String(length=1024), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["model_versions.id"], name=op.f("fk_verdicts_candidate_id")),
        sa.ForeignKeyConstraint(["champion_id"], ["model_versions.id"], name=op.f("fk_verdicts_champion_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
        sa.UniqueConstraint("digest", name=op.f("uq_verdicts_digest")),
    )
    op.create_index("ix_verdicts_candidate_id_champion_id", "verdicts", ["candidate_id", "champion_id"])


def _make_promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("profile_name", sa.String(length=200), nullable=False),
        sa.Column("alias", sa.String(length=16), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("model_version_id", sa.BigInteger(), nullable=True),
        sa.Column("previous_id", sa.BigInteger(), nullable=True),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("share", sa.Double(), nullable=True),
        sa.Column("who", sa.String(length=200), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("alias IN ('champion', 'challenger')", name=op.f("ck_promotions_alias")),
        sa.CheckConstraint(
            "action IN ('promote', 'rollback', 'challenge', 'withdraw')", name=op.f("ck_promotions_action")
        ),
        sa.CheckConstraint(
            "action <> 'promote' OR verdict_id IS NOT NULL", name=op.f("ck_promotions_promoted_by_verdict")
        ),
        sa.CheckConstraint(
            "alias <> 'champion' OR model_version_id IS NOT NULL", name=op.f("ck_promotions_champion_is_somebody")
        ),
        sa.CheckConstraint("share IS NULL OR share > 0 AND share <= 1", name=op.f("ck_promotions_share")),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_promotions_model_version_id")
        ),
        sa.ForeignKeyConstraint(["previous_id"], ["model_versions.id"], name=op.f("fk_promotions_previous_id")),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdicts.id"], name=op.f("fk_promotions_verdict_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    op.create_index("ix_promotions_profile_name_alias_id", "promotions", ["profile_name", "alias", "id"])


def downgrade() -> None:
    op.execute("DROP VIEW shadow_comparisons")
    op.drop_table("promotions")
    op.execute("DROP FUNCTION promotions_are_history")
    op.drop_table("verdicts")
    op.execute("DELETE FROM runs WHERE shadow")
    op.drop_constraint("uq_runs_identity", "runs")
    op.create_unique_constraint("uq_runs_identity", "runs", _IDENTITY)
    op.drop_column("runs", "shadow")
    op.drop_column("projects", "model_version_id")
    op.drop_column("model_versions", "origin")
    op.drop_column("model_versions", "parent_id")
