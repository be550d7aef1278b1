"""Retraining schedules, each time that a project's corrections were learned from, and who was told."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_STATES = (
    "'queued', 'running', 'skipped', 'stopped', 'refused', 'passed', 'challenging', 'promoted', 'failed', 'cancelled'"
)
_NOW = sa.text("now()")


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _made() -> sa.Column[object]:
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False)


def _json(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), server_default=default, nullable=False)


def upgrade() -> None:
    op.create_table(
        "retraining_schedules",
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        _json("plan"),
        _moment("next_at"),
        _made(),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_retraining_schedules_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_retraining_schedules")),
    )
    _make_retrainings()
    op.create_table(
        "retraining_notices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("retraining_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.String(length=2000), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("dispatched_at"),
        _moment("sent_at"),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["retraining_id"], ["retrainings.id"], name=op.f("fk_retraining_notices_retraining_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retraining_notices")),
        sa.UniqueConstraint("retraining_id", "address", name=op.f("uq_retraining_notices_retraining_id_address")),
    )


def _make_retrainings() -> None:
    refers = {
        "dataset_id": "datasets.id", "base_id": "model_versions.id", "candidate_id": "model_versions.id",
        "verdict_id": "verdicts.id",
    }  # fmt: skip
    op.create_table(
        "retrainings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=200), nullable=False),
        _json("plan"),
        _moment("due_at", nullable=False),
        sa.Column("state", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("stage_progress", sa.Double(), server_default="0", nullable=False),
        _moment("stage_began_at"),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("device", sa.String(length=200), nullable=True),
        _moment("lease_expires_at"),
        _moment("dispatched_at"),
        _made(),
        _moment("started_at"),
        _moment("finished_at"),
        sa.Column("corrections", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in refers),
        _json("timings_s", "{}"),
        _json("figures", "{}"),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_retrainings_state")),
        sa.CheckConstraint(
            "state <> 'running' OR lease_expires_at IS NOT NULL", name=op.f("ck_retrainings_running_has_lease")
        ),
        sa.CheckConstraint("stage_progress BETWEEN 0 AND 1", name=op.f("ck_retrainings_stage_progress")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_retrainings_project_id"), ondelete="CASCADE"
        ),
        *(sa.ForeignKeyConstraint([name], [to], name=op.f(f"fk_retrainings_{name}")) for name, to in refers.items()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrainings")),
        sa.UniqueConstraint("project_id", "due_at", name=op.f("uq_retrainings_project_id_due_at")),
    )
    for name, column, where in (
        ("uq_retrainings_device", "device", "state = 'running'"),
        ("uq_retrainings_open", "project_id", "state IN ('queued', 'running')"),
    ):
        op.create_index(name, "retrainings", [column], unique=True, postgresql_where=sa.text(where))


def downgrade() -> None:
    for table in ("retraining_notices", "retrainings", "retraining_schedules"):
        op.drop_table(table)
