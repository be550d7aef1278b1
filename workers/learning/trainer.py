"""GRPO of System 1: TRL's trainer, made to see and hear.

TRL 1.16 takes pictures through its loss, but neither video nor sound: it generates with them and then computes the loss
as if they weren't there. Here the media go with their rows through sampling, loss and reference. Each clip is prepared
once a round, ahead (`samples`), its vision features are computed once for the group (the towers are frozen), and the
group is judged in one System 2 batch and one SAM2 pass (`judging`).

As in the paper: groups of G completions, advantages in units of the group's deviation, the k3 estimate of the KL to the
base, towers frozen. Ours: one update a rollout unless told otherwise, so that clipping has nothing to do; the loss is
the mean over completions of the mean over their tokens; chance belongs to the draw, not to the process (`sampling`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from typing import Any

import torch

from backend.domain.errors import Misconfigured
from backend.settings import TrainingSettings
from workers.learning.deadline import Annealing, Deadline
from workers.learning.judging import Judge, Judged
from workers.learning.libraries import (
    BaseModelOutputWithPooling,
    Dataset,
    DistributedType,
    GenerationConfig,
    GRPOConfig,
    GRPOTrainer,
    unwrap_model_for_generation,
)
from workers.learning.rewards import PARTS
from workers.learning.samples import Sample, collate, join_media
from workers.learning.sampling import choosers, media_token_ids

#: The only version whose methods these are.
TRL_VERSION = "1.16.0"
#: Tensors that the towers take in the model's own precision; times and masks stay as they are.
_SENSED = ("pixel_values", "pixel_values_videos", "input_features")
#: What the vision tower looks at, by the model's name of what comes of it: its pixels, their grid, and who looks.
_LOOKS = {
    "image": ("pixel_values", "image_grid_thw", "get_image_features"),
    "video": ("pixel_values_videos", "video_grid_thw", "get_video_features"),
}


def check_trl() -> None:
    """Raises `Misconfigured` for another trl: private methods of this one are overridden, and in another they may do
    something else, or never be called, without a word."""
    if (found := version("trl")) != TRL_VERSION:
        raise Misconfigured(
            f"workers/learning/trainer.py overrides methods of trl {TRL_VERSION}, and trl {found} is installed: install"
            f" trl=={TRL_VERSION}, or go through the overridden methods and tests/unit/test_grpo_*.py for {found}"
        )


class _Part:
    """A part of the reward as TRL takes it: what it adds to R, None where it isn't known."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, added: Sequence[dict[str, float | None]], **_: Any) -> list[float | None]:
        return [one[self.__name__] for one in added]


def grpo_config(settings: TrainingSettings, folder: str, *, device: str, bf16: bool, processes: int) -> Any:
    """TRL's configuration. Raises `Misconfigured` unless every process has whole groups and whole micro-batches, and
    saves after whole rollouts."""
    groups, rest = divmod(settings.prompts_per_step, processes)
    if rest:
        raise Misconfigured(
            f"training.prompts_per_step ({settings.prompts_per_step}) must be a multiple of the {processes} processes: "
            "a group is sampled and judged in one of them"
        )
    if settings.save_every_steps % settings.updates_per_rollout:
        raise Misconfigured(
            f"training.save_every_steps ({settings.save_every_steps}) must be a multiple of updates_per_rollout"
            f" ({settings.updates_per_rollout}): what goes on from between them would sample its rollouts again"
        )
    rows = groups * settings.group_size
    micro = min(settings.micro_batch, rows)
    if rows % micro:
        raise Misconfigured(
            f"training.micro_batch ({micro}) must divide the {rows} completions that a process has in a step"
        )
    return GRPOConfig(
        folder, seed=settings.seed, max_steps=settings.steps, use_cpu=device == "cpu", bf16=bf16,
        per_device_train_batch_size=micro, gradient_accumulation_steps=rows // micro,
        num_generations=settings.group_size, num_iterations=settings.updates_per_rollout,
        learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps, max_grad_norm=settings.grad_norm_max, optim="adamw_torch",
        beta=settings.beta, epsilon=settings.clip_low, epsilon_high=settings.clip_high, loss_type="grpo",
        # The paper's KL is the plain k3; by default TRL weighs it by the policy's ratio, which changes its gradient.
        use_bias_correction_kl=False,
        scale_rewards=settings.advantage_scale, temperature=settings.temperature, top_p=settings.top_p,
        max_completion_length=settings.max_new_tokens, disable_dropout=True,
        gradient_checkpointing=settings.gradient_checkpointing, shuffle_dataset=False, remove_unused_columns=False,
        dataloader_pin_memory=False, logging_steps=1, save_strategy="steps", save_steps=settings.save_every_steps,
        save_total_limit=2, report_to="none", disable_tqdm=True,
    )  # fmt: skip


class OmniGRPOTrainer(GRPOTrainer):  # type: ignore[misc]  # its base is Any
    """`rounds(first)` yields, from that round on, the samples that this process has in each. By `deadline` the
    learning rate has come down."""

    def __init__(
        self, policy: Any, processor: Any, args: Any, judge: Judge, settings: TrainingSettings,
        rounds: Callable[[int], Iterator[list[Sample]]], deadline: Deadline | None = None, **options: Any,
    ) -> None:  # fmt: skip
        check_trl()
        for tower in (policy.visual, policy.audio_tower):
            tower.requires_grad_(False)
        self._judge, self._settings, self._rounds_from, self._deadline = judge, settings, rounds, deadline
        self._rounds: Iterator[list[Sample]] | None = None
        self._rows: list[Sample] = []
        self._seen: dict[int, torch.Tensor] = {}
        draws = range(-(-settings.steps // settings.updates_per_rollout) * settings.prompts_per_step)
        rows = Dataset.from_dict({"prompt": [f"draw {draw}" for draw in draws], "draw": list(draws)})
        parts: list[Any] = [_Part(name) for name in PARTS]
        super().__init__(policy, parts, args, rows, processing_class=processor, **options)
        common = {
            "max_new_tokens": args.max_completion_length, "pad_token_id": self._tokenizer.pad_token_id,
            "eos_token_id": self.eos_token_ids, "suppress_tokens": media_token_ids(self._tokenizer), "top_k": 0,
            "disable_compile": True,
        }  # fmt: skip
        self._sampled = GenerationConfig(do_sample=True, num_return_sequences=settings.group_size, **common)
        self._greedy = GenerationConfig(do_sample=False, **{k: v for k, v in common.items() if k != "top_k"})

    # -- what TRL would send or write about a training, and nobody here asks for

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_: Any, **__: Any) -> None:
        pass

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        # Read so, because transformers doesn't say what it is.
        given: Any = getattr(self, "lr_scheduler", None)
        if self._deadline is None or given is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        share = Annealing(num_training_steps, self._settings.warmup_steps, self._deadline)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    # -- a round: prepare, sample, judge

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        draws = list(dict.fromkeys(row["draw"] for row in inputs))
        if self._rounds is None:
            self._rounds = self._rounds_from(draws[0] // self._settings.prompts_per_step)
        samples = {sample.draw: sample for sample in next(self._rounds)}
        if list(samples) != draws:
            raise RuntimeError(f"samples of draws {list(samples)} came where {draws} were to come")
        self._rows, self._seen = [samples[row["draw"]] for row in inputs], {}
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        return scored | {"rows": self._rows}

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:  # noqa: ARG002 (named by TRL)
        return [sample.prompt_ids.tolist() for sample in self._rows], None, {}

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        samples = list({sample.draw: sample for sample in self._rows}.values())
        size, device = self._settings.group_size, self.accelerator.device
        chosen = choosers(
            self._settings.seed, [sample.draw for sample in samples], size, device,
            temperature=self._settings.temperature, top_p=self._settings.top_p,
        )  # fmt: skip
        return self._write(samples, self._sampled, logits_processor=chosen), None

    def greedy(self, samples: Sequence[Sample]) -> list[str]:
        """What System 1 answers as the product asks it."""
        written = self._write(samples, self._greedy)
        return [str(text) for text in self._tokenizer.batch_decode(written, skip_special_tokens=True)]

    def _write(self, samples: Sequence[Sample], config: GenerationConfig, **options: Any) -> list[list[int]]:
        """Completions up to and with their end, those of a sample beside each other."""
        there = self._placed(collate(samples, self._tokenizer.pad_token_id))
        unwrapped = unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        )  # fmt: skip
        with unwrapped as model, torch.no_grad(), self._dist.summon_full_params(self.model_wrapped, recurse=False):
            training = model.training
            model.eval()
            begin = time.perf_counter()
            output = model.generate(**there, generation_config=config, **options)
            model.train(training)
            if config is self._sampled:
                self._log_metric("writing", time.perf_counter() - begin)
        rows: list[list[int]] = output[:, there["input_ids"].shape[1] :].tolist()
        return [self._up_to_end(row) for row in rows]

    def _up_to_end(self, row: list[int]) -> list[int]:
        return row[: next((n + 1 for n, token in enumerate(row) if token in self.eos_token_ids), None)]

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[str], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        begin, judged = time.perf_counter(), list[Judged]()
        for _, group in groupby(zip(self._rows, completions, strict=True), key=lambda row: row[0].draw):
            rows = list(group)
            judged += self._judge.judge(rows[0][0], [completion for _, completion in rows])
        self._log_parts(judged, time.perf_counter() - begin)
        added = [one.reward.weighted(self._judge.weights) for one in judged]
        told = [row | {"added": one} for row, one in zip(inputs, added, strict=True)]
        rewards: torch.Tensor = super()._calculate_rewards(told, prompts, completions, completion_ids_list)
        return rewards

    def _log_parts(self, judged: Sequence[Judged], seconds: float) -> None:
        for one in judged:
            for name in PARTS:
                if (part := getattr(one.reward, name)) is not None:
                    self._log_metric(f"parts/{name}", part)
            self._log_metric("chosen", one.moments)
            self._log_metric("unanswered", float(not one.answered))
        self._log_metric("judging", seconds)

    # -- the loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._rows = inputs["rows"]
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:  # fmt: skip
        """Log-probability and entropy (nats) of each completion token, (rows, logits_to_keep); with the media."""
        log_probabilities, entropies = [], []
        size = batch_size or len(input_ids)
        for begin in range(0, len(input_ids), size):
            part = slice(begin, begin + size)
            inputs = input_ids[part], attention_mask[part], self._rows[part]
            logits = self._completion_logits(model, *inputs, logits_to_keep)
            every = (logits.float() / self._settings.temperature).log_softmax(-1)
            ids = input_ids[part, -logits_to_keep:, None]
            log_probabilities.append(every.gather(-1, ids)[..., 0])
            if compute_entropy:
                with torch.no_grad():
                    entropies.append(-(every.exp() * every).sum(-1))
        return torch.cat(log_probabilities), torch.cat(entropies) if compute_entropy else None, None

    def _completion_logits(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, rows: Sequence[Sample], count: int
    ) -> torch.Tensor:
        """(rows, count, vocabulary): the logits that predict the last `count` tokens. The head sees no other
        position, for logits of the whole prompt would take more memory than the rest."""
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        cut = head.register_forward_pre_hook(lambda _, args: (args[0][:, -count - 1 : -1],))
        try:
            with self.accelerator.autocast():
                logits: torch.Tensor = model(
                    input_ids=ids, attention_mask=mask, use_cache=False, **self._perceived(rows)
                ).logits
        finally:
            cut.remove()
        return logits

    def _perceived(self, rows: Sequence[Sample]) -> dict[str, Any]:
        """The media of the rows as the model's arguments. The frozen vision tower looks at a clip once a round; where
        its weights are spread over processes, only a whole forward pass can use them, and it looks at each row."""
        if self.is_fsdp_enabled or self.accelerator.distributed_type is DistributedType.DEEPSPEED:
            return self._placed(join_media(rows))
        unseen = {row.draw: row for row in rows if row.draw not in self._seen}
        features = {}
        for kind, (pixels, _, _) in _LOOKS.items():
            self._look([row for row in unseen.values() if pixels in row.media], kind)
            if seen := tuple(self._seen[row.draw] for row in rows if pixels in row.media):
                features[kind] = BaseModelOutputWithPooling(pooler_output=seen)
        media = self._placed(join_media(rows, without=[pixels for pixels, _, _ in _LOOKS.values()]))
        return media | {"mm_encoder_outputs": features}

    def _look(self, samples: Sequence[Sample], kind: str) -> None:
        if not samples:
            return
        pixels, grid, look = _LOOKS[kind]
        model = self.accelerator.unwrap_model(self.model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        media = self._placed(join_media(samples))
        with torch.no_grad(), self.accelerator.autocast():
            features = getattr(base, look)(media[pixels], media[grid], return_dict=True).pooler_output
        self._seen |= {sample.draw: one for sample, one in zip(samples, features, strict=True)}

    def _placed(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """On the device, what is seen and heard in the model's precision."""
        device, dtype = self.accelerator.device, self.model.dtype
        return {name: value.to(device, dtype if name in _SENSED else None) for name, value in batch.items()}
