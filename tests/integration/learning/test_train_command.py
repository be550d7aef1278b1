"""`premask train` as a person runs it, and what System 2 and SAM2 find for a group, here and behind the service."""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch

from backend.cli.train import _downstream, _settings, _with_base, serve_rewards
from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.profiles import REPOSITORY_ROOT
from backend.settings import RewardSettings, TrainingSettings
from tests.factories.small_training import FewThings, profile
from workers.learning.downstream import Downstream, Found, Keyframe, load_downstream, version_of
from workers.learning.judging import Judge
from workers.learning.samples import Preparer, Sample
from workers.learning.service import RemoteDownstream, make_server

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "backend.cli.main", "train"]


@pytest.fixture(scope="module")
def downstream() -> Downstream:
    torch.set_num_threads(1)
    return load_downstream(profile())


@pytest.fixture(scope="module")
def sample() -> Sample:
    preparer = Preparer(profile().system1, frames_min=8, frames_max=8, keyframes=4, seed=0)
    return preparer.draw(FewThings(), 0)


def said(sample: Sample, *starts: float, description: str | None = None) -> str:
    words = sample.description if description is None else description
    times = [f'"start_time": "00:{s:05.2f}", "end_time": "00:{s:05.2f}"' for s in starts]
    return "<think>so</think><answer>" + "".join(f'{{{t}, "description": "{words}"}}' for t in times) + "</answer>"


def test_a_group_in_one_pass_here_and_behind_the_service(downstream: Downstream, sample: Sample) -> None:
    shown = sorted(sample.truth.masks)
    rollouts = [
        [Keyframe(shown[0], str(sample.description)), Keyframe(shown[-1], str(sample.description))],
        [],
        [Keyframe(shown[0], str(sample.description))],
    ]
    asked = list[int]()
    generate = downstream._system2._engine.generate
    downstream._system2._engine.generate = lambda prompts, **o: asked.append(len(prompts)) or generate(prompts, **o)  # type: ignore[method-assign,func-returns-value]
    found = downstream.follow(sample.frames.numpy(), rollouts, segment=True)
    assert asked == [2], "one batch, and what two rollouts ask of a frame is asked once"
    assert [len(one.boxes) for one in found] == [2, 0, 1]
    assert found[0].boxes[0] == found[2].boxes[0]
    assert found[1] == Found((), ())
    assert found[0].tracks is not None
    server = make_server(downstream, version_of(profile()), "127.0.0.1", 0)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        remote = RemoteDownstream(f"http://127.0.0.1:{server.server_address[1]}", version_of(profile()))
        remote.check()
        assert remote.follow(sample.frames.numpy(), rollouts, segment=True) == found
    finally:
        server.shutdown()
        server.server_close()


def test_the_right_words_are_worth_more_than_wrong_ones(downstream: Downstream, sample: Sample) -> None:
    weights = RewardSettings(boxes=1)
    right, wrong = Judge(downstream, weights, 4).judge(
        sample, [said(sample, 0, 0.5, 1), said(sample, 0, 0.5, 1, description="the green crescent")]
    )
    assert right.reward.masks is not None
    assert right.reward.boxes is not None
    assert right.reward.masks > 0.7
    assert right.reward.boxes > 0.5
    assert right.right
    assert not wrong.right
    assert right.reward.total(weights) > wrong.reward.total(weights)


def test_a_guard_s_stop_is_said_and_is_a_status_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "short.toml"
    config.write_text("""
        [training]
        steps = 4
        prompts_per_step = 1
        group_size = 2
        frames_min = 16
        max_new_tokens = 4
        evaluate_every_steps = 9
        held_out_items = 1
        held_out_masks = false
        loaders = 0
        [training.guards]
        window = 2
        [reward]
        masks = 0.0
    """)
    done = subprocess.run(
        [*COMMAND, "run", "--config", str(config), "--level", "easy", "--out", str(tmp_path / "run")],
        cwd=REPOSITORY_ROOT, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY_ROOT)},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "stopped by the guard length after 2 steps: 100% of the completions don't end" in done.stdout
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert (verdict["guard"], verdict["checkpoint"], verdict["steps"]) == ("length", None, 2)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_training_does_not_begin_without_its_rewards_and_they_are_not_served_to_everybody(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        _downstream(profile(), TrainingSettings(reward_url="http://127.0.0.1:1"))
    with pytest.raises(Misconfigured, match=r"set training\.reward_token, here and there"):
        serve_rewards(host="0.0.0.0", port=0, profile=None)
    with pytest.raises(BadInput, match=r"no checkpoint in .*config\.json is missing"):
        _with_base(profile(), tmp_path)


def test_settings_are_said_to_be_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[training]\nbeta = 0.001\n[reward]\nboxes = 2.0\n")
    training, weights = _settings(config, {"steps": 7, "seed": None})
    assert (training.beta, training.steps, training.seed, weights.boxes) == (0.001, 7, 0, 2.0)
    for text, words in (
        ("[trainin]\n", "has trainin; it may have the tables"),
        ("[training]\nbeta = -1\n", "beta"),
        ("[training]\nbetta = 1\n", "betta"),
        ("[training", "can't be read"),
    ):
        config.write_text(text)
        with pytest.raises(BadInput, match=words):
            _settings(config, {})
    with pytest.raises(BadInput, match="can't be read"):
        _settings(tmp_path / "nowhere.toml", {})
