"""The tables, one module a noun. Importing this package fills `Base.metadata`."""

from backend.db.tables.base import Base
from backend.db.tables.checkpoints import CarriedMaskRow, RunCheckpoint, RunWay
from backend.db.tables.corrected import CorrectedLayer, CorrectedMaskRow, CorrectedTrackRow
from backend.db.tables.datasets import Dataset, DatasetItemRow, SourceVideo
from backend.db.tables.models import ModelVersion, Promotion, VerdictRow
from backend.db.tables.outages import LabelingState
from backend.db.tables.outbox import OutboxMessage, WorkerHeartbeat
from backend.db.tables.projects import AdoptedTask, Instruction, Project, ProjectSource
from backend.db.tables.renditions import RenditionRow
from backend.db.tables.retraining import Retraining, RetrainingNotice, RetrainingSchedule
from backend.db.tables.reviews import (
    MaskCorrectionRow,
    Review,
    ReviewFeed,
    ReviewTask,
    ReviewVersion,
    TrackCorrectionRow,
)
from backend.db.tables.runs import DetectionRow, KeyframeRow, MaskRow, Publication, Run, TrackRow
from backend.db.tables.videos import Video

__all__ = [
    "AdoptedTask", "Base", "CarriedMaskRow", "CorrectedLayer", "CorrectedMaskRow", "CorrectedTrackRow", "Dataset",
    "DatasetItemRow", "DetectionRow", "Instruction", "KeyframeRow", "LabelingState", "MaskCorrectionRow", "MaskRow",
    "ModelVersion", "OutboxMessage", "Project", "ProjectSource", "Promotion", "Publication", "RenditionRow",
    "Retraining", "RetrainingNotice", "RetrainingSchedule", "Review", "ReviewFeed", "ReviewTask", "ReviewVersion",
    "Run", "RunCheckpoint", "RunWay", "SourceVideo", "TrackCorrectionRow", "TrackRow", "VerdictRow", "Video",
    "WorkerHeartbeat",
]  # fmt: skip
