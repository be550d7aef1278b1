"""A third mode of instructions: `aid`, the first frame and the sound, boxes only."""

from collections.abc import Sequence

from alembic import op

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_instructions_mode"), "instructions", type_="check")
    op.create_check_constraint(op.f("ck_instructions_mode"), "instructions", "mode IN ('vos', 'avs', 'aid')")


def downgrade() -> None:
    # Raises where there are instructions of the mode: what was found for them would be lost.
    op.drop_constraint(op.f("ck_instructions_mode"), "instructions", type_="check")
    op.create_check_constraint(op.f("ck_instructions_mode"), "instructions", "mode IN ('vos', 'avs')")
