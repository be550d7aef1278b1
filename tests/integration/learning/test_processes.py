"""A training is one training, however many processes it has and however often it is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.domain.errors import BadInput
from backend.profiles import REPOSITORY_ROOT
from tests.factories.small_training import SETTINGS, profile, small_training
from tests.factories.waiting import wait_for
from workers.learning.run import Verdict
from workers.pipeline.engines.thinker import Thinker

pytestmark = pytest.mark.slow

STEPS = 2
COMMAND = [sys.executable, "-m", "tests.factories.small_training"]
#: Figures that don't depend on how fast the machine is.
SAME = ("reward", "reward_std", "keyframes", "chosen", "kl", "entropy", "length", "dead_groups", "loss", "grad_norm")


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def courses(folder: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in SAME if name in row} for row in rows(folder) if "held_out" not in row]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict]:
    """A training of two steps in this process, never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, small_training(folder, SETTINGS.model_copy(update={"steps": STEPS}))


def start(arguments: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
    there = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY_ROOT)} | environment
    return subprocess.Popen([*COMMAND, *arguments], cwd=REPOSITORY_ROOT, env=there)


def test_a_training_ends_with_a_checkpoint_that_the_product_loads(whole: tuple[Path, Verdict]) -> None:
    folder, verdict = whole
    assert (verdict.steps, verdict.guard, verdict.checkpoint) == (STEPS, None, str(folder / "checkpoint"))
    assert json.loads((folder / "verdict.json").read_text())["held_out_last"]["step"] == STEPS
    assert [row["step"] for row in rows(folder) if "held_out" not in row] == [1, 2]
    assert [row["step"] for row in rows(folder) if "held_out" in row] == [0, 2]
    assert not list(folder.glob("checkpoint-*"))
    trained = profile().system1.weights.model_copy(update={"name": str(folder / "checkpoint")})
    after, before = Thinker(trained, "float32", "cpu"), Thinker(profile().system1.weights, "float32", "cpu")
    old = dict(before.model.named_parameters())
    changed = {name for name, value in after.model.named_parameters() if not torch.equal(value, old[name])}
    assert changed
    assert all(name.startswith(("model.", "lm_head.")) for name in changed)
    assert after.processor.tokenizer.get_vocab() == before.processor.tokenizer.get_vocab()
    with pytest.raises(BadInput, match="has ended"):
        small_training(folder)


def test_after_kill_9_the_next_step_is_the_one_it_would_have_been(tmp_path: Path, whole: tuple[Path, Verdict]) -> None:
    process = start([str(tmp_path), str(STEPS)])
    try:
        wait_for(lambda: (tmp_path / "checkpoint-1").exists() or process.poll() is not None, "a step was saved", 240)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "verdict.json").exists()
    small_training(tmp_path, SETTINGS.model_copy(update={"steps": STEPS}))
    assert courses(tmp_path) == courses(whole[0])
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_adapters_are_merged_into_the_checkpoint_that_is_left(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"steps": 2, "lora_rank": 4, "learning_rate": 1e-2, "updates_per_rollout": 2,
                                           "save_every_steps": 2})  # fmt: skip
    small_training(tmp_path, settings)
    before = load_file(profile().system1.weights.path / "model.safetensors")
    after = weights(tmp_path)
    assert set(after) == set(before)
    changed = {name for name, value in after.items() if not torch.allclose(value, before[name].float(), atol=1e-6)}
    assert changed
    assert all(name.startswith("model.layers.") and name.endswith("_proj.weight") for name in changed)
    kl = [row["kl"] for row in rows(tmp_path) if "held_out" not in row]
    assert kl[0] < 1e-6 < kl[1], "the base is the model without its adapters"


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"base": "another"}')
    with pytest.raises(BadInput, match=r"other settings .base, profile.*choose another folder"):
        small_training(tmp_path)


def test_two_processes_make_the_training_of_one(tmp_path: Path, whole: tuple[Path, Verdict]) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    processes = [start([str(tmp_path), str(STEPS)], RANK=str(n), LOCAL_RANK=str(n), **common) for n in range(2)]
    assert [process.wait(timeout=280) for process in processes] == [0, 0]
    first, second = zip(courses(tmp_path), courses(whole[0]), strict=True)
    # Entropy and KL are means over micro-batches, of which one process has two: each counts as much, however long.
    means = ("entropy", "kl")
    for name in first[0]:
        assert first[0][name] == pytest.approx(first[1][name], rel=1e-2 if name in means else 1e-3, abs=1e-5), name
    assert second[0] == pytest.approx(second[1], rel=1e-2, abs=1e-3)
    ours, theirs = weights(tmp_path), weights(whole[0])
    # Adam divides by the gradient's size, so where a gradient is all rounding its sign is anything.
    differences = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in theirs])
    assert float((differences < 1e-4).float().mean()) > 0.99
