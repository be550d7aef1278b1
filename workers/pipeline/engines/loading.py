"""The two engines that a model profile asks for."""

from backend.profiles import ModelProfile
from workers.pipeline.engines import Engine
from workers.pipeline.engines.thinker import Thinker


def load_engines(profile: ModelProfile) -> tuple[Engine, Engine]:
    """System 1's engine and System 2's: the same one twice where System 2 has none of its own."""
    engine1 = Thinker(profile.system1.weights, profile.system1.dtype, profile.device)
    own = profile.system2.weights
    return engine1, engine1 if own is None else Thinker(own, profile.system2.dtype, profile.device)
