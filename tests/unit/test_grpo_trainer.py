"""The trainer against what it must be: a direct forward pass, a plain loop, and what may never be written."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.domain.errors import Misconfigured
from backend.domain.runs import Mode
from tests.factories import plain_grpo
from tests.factories.plain_grpo import Rollout
from tests.factories.small_training import SETTINGS, FewThings, judge, profile
from workers.learning import trainer as module
from workers.learning.samples import Preparer, Sample
from workers.learning.sampling import media_token_ids
from workers.learning.trainer import OmniGRPOTrainer, grpo_config
from workers.pipeline.engines.presenting import load_processor
from workers.pipeline.engines.thinker import load_model

TEMPERATURE = 1.3
TRAINING = SETTINGS.model_copy(update={"temperature": TEMPERATURE, "micro_batch": 8, "max_new_tokens": 70})


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """One with sound, one without, and one of a single image with sound, with prompts of different length."""
    preparer = Preparer(profile().system1, frames_min=12, frames_max=16, keyframes=4, seed=0)
    drawn = [preparer.draw(FewThings(), draw) for draw in range(6)]
    heard = next(sample for sample in drawn if "input_features" in sample.media)
    silent = next(sample for sample in drawn if "input_features" not in sample.media)
    asked = next(item for item in map(FewThings().draw, range(6)) if item.mode is Mode.AVS)
    pictured = preparer.prepare(replace(asked, mode=Mode.AID), draw=len(drawn))
    assert "pixel_values_videos" not in pictured.media
    assert len({len(sample.prompt_ids) for sample in (heard, silent, pictured)}) == 3
    return [heard, silent, pictured]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> OmniGRPOTrainer:
    """A trainer whose policy is no longer its base."""
    args = grpo_config(TRAINING, str(tmp_path_factory.mktemp("run")), device="cpu", bf16=False, processes=1)
    weights = profile().system1.weights

    def rounds(_: int) -> Iterator[list[Sample]]:
        while True:
            yield samples

    torch.set_num_threads(1)
    policy = load_model(weights, "float32")
    made = OmniGRPOTrainer(policy, load_processor(weights), args, judge(), TRAINING, rounds)
    with torch.no_grad():
        torch.manual_seed(0)
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.02)
    return made


@pytest.fixture(scope="module")
def batch(trainer: OmniGRPOTrainer, samples: list[Sample]) -> dict[str, Any]:
    rows = [{"prompt": "", "draw": sample.draw} for sample in samples for _ in range(TRAINING.group_size)]
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return dict(trainer._generate_and_score_completions(rows))


def rollouts(batch: dict[str, Any], samples: list[Sample]) -> list[Rollout]:
    """What the trainer sampled, with what each completion earned, told anew."""
    found = []
    tokenizer = load_processor(profile().system1.weights).tokenizer
    for row, sample in enumerate(sample for sample in samples for _ in range(TRAINING.group_size)):
        ids = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
        [judged] = judge().judge(sample, [tokenizer.decode(ids, skip_special_tokens=True)])
        total = judged.reward.total(judge().weights)
        found.append(Rollout(sample.prompt_ids, dict(sample.media), ids, total))
    return found


def test_log_probabilities_are_those_of_a_direct_forward_and_change_with_the_media(
    trainer: OmniGRPOTrainer, batch: dict[str, Any], samples: list[Sample]
) -> None:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    count = batch["completion_ids"].shape[1]
    trainer._rows = batch["rows"]
    with torch.no_grad():
        found, entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, count, batch_size=3, compute_entropy=True
        )
        direct = [
            plain_grpo.log_probabilities(trainer.model, one, TEMPERATURE) for one in rollouts(batch, samples)
        ]  # fmt: skip
    for row, expected in enumerate(direct):
        assert torch.allclose(found[row, : len(expected)], expected, atol=2e-4)
    assert entropy is not None
    assert entropy.shape == found.shape
    assert (entropy >= -1e-5).all()

    # The same words about another clip, and about another sound.
    heard = samples[0]
    other = {name: value.roll(1, -1) for name, value in heard.media.items() if name == "pixel_values_videos"}
    silence = {name: value * 0 for name, value in heard.media.items() if name == "input_features"}
    for changed in (other, silence):
        swapped = Rollout(heard.prompt_ids, dict(heard.media) | changed, rollouts(batch, samples)[0].completion_ids, 0)
        with torch.no_grad():
            assert (plain_grpo.log_probabilities(trainer.model, swapped, TEMPERATURE) - direct[0]).abs().max() > 1e-2


@pytest.mark.parametrize("worth", [1.0, 0.0], ids=["advantages and KL", "KL alone"])
def test_loss_and_gradients_equal_a_plain_loop(
    worth: float, trainer: OmniGRPOTrainer, batch: dict[str, Any], samples: list[Sample]
) -> None:
    assert batch["advantages"].abs().max() > 0.1, "a group that earns the same teaches nothing here"
    policy, base = trainer.model, load_model(profile().system1.weights, "float32").eval()
    policy.zero_grad()
    ours = trainer._compute_loss(policy, batch | {"advantages": batch["advantages"] * worth})
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    earned = [replace(one, reward=one.reward * worth) for one in rollouts(batch, samples)]
    plain = plain_grpo.loss(
        policy, base, earned, TRAINING.group_size, beta=TRAINING.beta, temperature=TEMPERATURE,
        clip_low=TRAINING.clip_low, clip_high=TRAINING.clip_high,
    )  # fmt: skip
    plain.backward()
    assert ours.item() == pytest.approx(plain.item(), abs=1e-5)
    expected = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    assert set(gradients) == set(expected)
    assert all(name.startswith(("model.", "lm_head.")) for name in gradients), "the towers are frozen"
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    worst = max(float((gradients[name] - expected[name]).abs().max()) for name in expected)
    assert worst < 1e-3 * largest
    policy.zero_grad()


def test_media_tokens_are_never_written(trainer: OmniGRPOTrainer, samples: list[Sample]) -> None:
    forbidden = media_token_ids(trainer._tokenizer)
    assert len(set(forbidden)) == 7

    def preferred(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., forbidden] += 50
        return logits

    hook = trainer.model.lm_head.register_forward_hook(preferred)
    try:
        trainer._rows = [sample for sample in samples for _ in range(TRAINING.group_size)]
        sampled, _ = trainer._generate_single_turn([], None, {}, TRAINING.group_size)
        allowed = trainer._sampled.suppress_tokens
        trainer._sampled.suppress_tokens = None
        unheld, _ = trainer._generate_single_turn([], None, {}, TRAINING.group_size)
        trainer._sampled.suppress_tokens = allowed
    finally:
        hook.remove()
    assert not set(forbidden) & {token for row in sampled for token in row}
    assert set(forbidden) & {token for row in unheld for token in row}, "without the rule they would be"


def test_a_draw_writes_the_same_whoever_is_sampled_beside_it(
    trainer: OmniGRPOTrainer, batch: dict[str, Any], samples: list[Sample]
) -> None:
    together = [
        ids[mask.bool()].tolist() for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    trainer._rows = [samples[1]] * TRAINING.group_size
    alone, _ = trainer._generate_single_turn([], None, {}, TRAINING.group_size)
    assert alone == together[TRAINING.group_size : 2 * TRAINING.group_size]
    assert len({tuple(row) for row in alone}) > 1


def test_another_trl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module.check_trl()
    monkeypatch.setattr(module, "version", lambda _: "1.17.0")
    with pytest.raises(Misconfigured, match=r"trl 1\.16\.0.*trl 1\.17\.0 is installed"):
        module.check_trl()


def test_every_process_has_whole_groups_and_saves_after_whole_rollouts(tmp_path: Path) -> None:
    odd = TRAINING.model_copy(update={"prompts_per_step": 3})
    with pytest.raises(Misconfigured, match="multiple of the 2 processes"):
        grpo_config(odd, str(tmp_path), device="cpu", bf16=False, processes=2)
    halfway = TRAINING.model_copy(update={"updates_per_rollout": 2, "save_every_steps": 3})
    with pytest.raises(Misconfigured, match=r"save_every_steps .3. must be a multiple of updates_per_rollout .2."):
        grpo_config(halfway, str(tmp_path), device="cpu", bf16=False, processes=1)
    with pytest.raises(Misconfigured, match="micro_batch"):
        grpo_config(
            TRAINING.model_copy(update={"micro_batch": 3}), str(tmp_path), device="cpu", bf16=False, processes=1
        )
