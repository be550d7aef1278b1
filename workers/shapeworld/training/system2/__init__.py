"""System 2 from nothing: a description and one picture, answered in Qwen's grounding JSON.

`pictures` and `batches` make what is seen and asked, `language` what is written, `losses` and `learner` teach it, and
`validation` asks the pipeline's own code how well it went.
"""

from workers.shapeworld.training.system2.learner import System2Trainee
from workers.shapeworld.training.trainee import Trainee


def trainee(seed: int, device: str) -> Trainee:
    """The training of that seed, from its beginning."""
    return System2Trainee(seed, device)
