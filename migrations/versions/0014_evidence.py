"""What speaks for a track and a box is kept beside its score; keyframes and masks have one, too; a keyframe says why
it was looked at."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("tracks", sa.Column("evidence", postgresql.JSONB(), nullable=True))
    op.add_column("detections", sa.Column("evidence", postgresql.JSONB(), nullable=True))
    op.add_column("keyframes", sa.Column("score", sa.Float(), nullable=True))
    op.add_column("keyframes", sa.Column("origin", sa.String(16), nullable=False, server_default="chosen"))
    op.add_column("masks", sa.Column("score", sa.REAL(), nullable=True))


def downgrade() -> None:
    op.drop_column("masks", "score")
    op.drop_column("keyframes", "origin")
    op.drop_column("keyframes", "score")
    op.drop_column("detections", "evidence")
    op.drop_column("tracks", "evidence")
