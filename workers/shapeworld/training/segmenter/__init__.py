"""Training of the segmenter from nothing, on scenes of the training range."""

from backend.profiles import load_profile
from workers.shapeworld.training.segmenter.learner import SegmenterTrainee


def trainee(seed: int, device: str) -> SegmenterTrainee:
    """The segmenter of the profile "shapeworld"."""
    return SegmenterTrainee(load_profile("shapeworld").segmenter, seed, device)
