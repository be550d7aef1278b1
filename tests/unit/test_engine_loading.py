"""Which engine a profile gives to which system; no weights are loaded for what a server answers."""

import pytest

from backend.cli.shapeworld import _with_checkpoints
from backend.profiles import ModelProfile, ServerProfile, load_profile
from workers.pipeline.engines import loading
from workers.pipeline.engines.openai import OpenAIEngine

SERVER = ServerProfile(base_url="http://127.0.0.1:9/v1", model="omni")


def profile_of(**parts: dict[str, object]) -> ModelProfile:
    profile = load_profile("omni-r1-7b")
    return profile.model_copy(
        update={name: getattr(profile, name).model_copy(update=update) for name, update in parts.items()}
    )


@pytest.fixture(autouse=True)
def thinkers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The weights, dtypes and devices of the models that would be loaded into this process."""
    made: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        loading, "Thinker", lambda weights, dtype, device, _: made.append((weights.name, dtype, device)) or object()
    )
    return made


def test_one_model_in_this_process_serves_both_systems(thinkers: list[tuple[str, str, str]]) -> None:
    one, two = loading.load_engines(profile_of())
    assert one is two
    assert thinkers == [("Haoz0206/Omni-R1", "bfloat16", "cuda")]


def test_one_server_serves_both_systems(thinkers: list[tuple[str, str, str]]) -> None:
    one, two = loading.load_engines(profile_of(system1={"server": SERVER}))
    assert isinstance(one, OpenAIEngine)
    assert one is two
    assert thinkers == []


def test_each_system_may_have_an_engine_of_its_own(thinkers: list[tuple[str, str, str]]) -> None:
    own = load_profile("shapeworld").system2.weights
    one, two = loading.load_engines(profile_of(system1={"server": SERVER}, system2={"weights": own}))
    assert isinstance(one, OpenAIEngine)
    assert not isinstance(two, OpenAIEngine)
    assert thinkers == [("workers/shapeworld/checkpoints/system2", "bfloat16", "cuda")]
    one, two = loading.load_engines(profile_of(system2={"weights": own, "server": SERVER}))
    assert not isinstance(one, OpenAIEngine)
    assert isinstance(two, OpenAIEngine)


def test_weights_that_are_to_be_evaluated_are_not_left_to_the_server(thinkers: list[tuple[str, str, str]]) -> None:
    profile = _with_checkpoints(profile_of(system1={"server": SERVER}), ["system1=runs/seed1/checkpoint"])
    loading.load_engines(profile)
    [(name, _, _)] = thinkers
    assert name.endswith("runs/seed1/checkpoint")
