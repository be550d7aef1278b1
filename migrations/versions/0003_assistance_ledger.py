"""The assistance ledger: a view with what each review came to, for the command and for analysts."""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LEDGER = """
CREATE VIEW assistance_ledger AS
SELECT
    review.id AS review_id, review.annotation_id, review.task_id, review.annotator,
    project.id AS project_id, project.name AS project, instruction.id AS instruction_id, instruction.mode,
    run.id AS run_id, run.video_id, model.profile_name, model.digest AS model_digest,
    version.number AS version, version.changed_at, version.lead_time_s, version.skipped, version.accepted,
    tracks.tracks, tracks.tracks_untouched, tracks.tracks_edited, tracks.tracks_added, tracks.tracks_removed,
    tracks.tracks_relabeled, tracks.frames_touched, tracks.box_iou,
    masks.masks, masks.masks_untouched, masks.masks_edited, masks.masks_added, masks.masks_removed,
    masks.pixels_added, masks.pixels_removed, masks.mask_iou
FROM reviews AS review
JOIN LATERAL (
    SELECT * FROM review_versions WHERE review_id = review.id ORDER BY number DESC LIMIT 1
) AS version ON true
JOIN publications AS publication ON publication.id = review.publication_id
JOIN runs AS run ON run.id = publication.run_id
JOIN instructions AS instruction ON instruction.id = run.instruction_id
JOIN projects AS project ON project.id = instruction.project_id
JOIN model_versions AS model ON model.id = run.model_version_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS tracks,
        count(*) FILTER (WHERE change = 'untouched') AS tracks_untouched,
        count(*) FILTER (WHERE change = 'edited') AS tracks_edited,
        count(*) FILTER (WHERE change = 'added') AS tracks_added,
        count(*) FILTER (WHERE change = 'removed') AS tracks_removed,
        count(*) FILTER (WHERE label_before <> label_after) AS tracks_relabeled,
        coalesce(sum(cardinality(touched_frames)), 0) AS frames_touched,
        avg(iou) FILTER (WHERE change IN ('untouched', 'edited')) AS box_iou
    FROM track_corrections WHERE version_id = version.id
) AS tracks
CROSS JOIN LATERAL (
    SELECT
        count(*) AS masks,
        count(*) FILTER (WHERE change = 'untouched') AS masks_untouched,
        count(*) FILTER (WHERE change = 'edited') AS masks_edited,
        count(*) FILTER (WHERE change = 'added') AS masks_added,
        count(*) FILTER (WHERE change = 'removed') AS masks_removed,
        coalesce(sum(pixels_added), 0) AS pixels_added,
        coalesce(sum(pixels_removed), 0) AS pixels_removed,
        avg(iou) FILTER (WHERE change IN ('untouched', 'edited')) AS mask_iou
    FROM mask_corrections WHERE version_id = version.id
) AS masks
WHERE review.deleted_at IS NULL
"""


def upgrade() -> None:
    op.execute(LEDGER)


def downgrade() -> None:
    op.execute("DROP VIEW assistance_ledger")
