"""The two engines that a model profile asks for."""

from backend.profiles import ModelProfile, ServerProfile, Weights
from workers.pipeline.engines import Engine
from workers.pipeline.engines.openai import OpenAIEngine
from workers.pipeline.engines.thinker import Thinker


def load_engines(profile: ModelProfile) -> tuple[Engine, Engine]:
    """System 1's engine and System 2's: the same one twice where System 2 has none of its own.

    Raises `Misconfigured` if weights, or a server's key, are not where the profile says.
    """
    one, two = profile.system1, profile.system2
    engine1 = _engine(one.weights, one.server, one.dtype, profile.device, one.attention)
    if two.weights is None:
        return engine1, engine1
    return engine1, _engine(two.weights, two.server, two.dtype, profile.device, two.attention)


def _engine(weights: Weights, server: ServerProfile | None, dtype: str, device: str, attention: str) -> Engine:
    return Thinker(weights, dtype, device, attention) if server is None else OpenAIEngine(server)
