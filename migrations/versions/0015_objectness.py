"""What SAM2 makes of whether the thing is there at all is kept with each carried mask."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | Sequence[str] | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Of runs under way, what was carried before speaks neither for nor against: `backend.domain.confidence.UNKNOWN`.
    op.add_column("carried_masks", sa.Column("objectness", sa.Float(), nullable=False, server_default="0.5"))
    op.alter_column("carried_masks", "objectness", server_default=None)


def downgrade() -> None:
    op.drop_column("carried_masks", "objectness")
