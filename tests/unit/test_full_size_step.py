"""The arithmetic of a full-size step, where it can be held against the real thing: on the small model."""

from backend.settings import TrainingSettings
from benchmarks.full_size_step import H100, Lengths, Sizes, adapter_parameters, memory_gb, seconds
from tests.factories.small_training import profile
from workers.learning.libraries import LoraConfig
from workers.learning.run import LANGUAGE_LAYERS
from workers.pipeline.engines.thinker import load_model

SIZES = Sizes(
    thinker=9_000, language=7_000, eyes=700, trained=100, segmenter=200, layers=2, width=4, vocabulary=50, cache_bytes=8
)
LENGTHS = Lengths(
    seen=16, prompt=20, completion=10, looked_at=9, picture=12, boxes=5, frames=4, keyframes=4, detections=3
)


def test_adapters_have_as_many_parameters_as_peft_gives_them() -> None:
    from peft import get_peft_model

    model = load_model(profile().system1.weights, "float32")
    counted = adapter_parameters(model, 4)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=LANGUAGE_LAYERS))
    assert counted == sum(p.numel() for p in adapted.parameters() if p.requires_grad) > 0


def test_memory_is_what_lies_there_and_the_larger_of_both_peaks() -> None:
    small = memory_gb(SIZES, LENGTHS, TrainingSettings(group_size=2, micro_batch=1))
    # Two Thinkers in half precision, the segmenter in full, and weight, gradient and two moments of what is trained.
    fixed = 2 * 2 * 9_000 + 4 * 200 + 16 * 100
    loss = 30 * 4 * (2 * 2 + 16 * 2) + 10 * 50 * 14
    writing = 2 * 30 * 8
    assert small["peak"] * 1e9 == fixed + max(writing, loss)
    # A group that is large enough takes more while it writes than the loss of one row does.
    large = memory_gb(SIZES, LENGTHS, TrainingSettings(group_size=1_000, micro_batch=1))
    assert large["peak"] * 1e9 == fixed + 1_000 * 30 * 8


def test_a_group_twice_as_large_takes_twice_the_loss_and_the_same_clip() -> None:
    adapters = TrainingSettings(lora_rank=4)
    one, two = (seconds(SIZES, LENGTHS, adapters.model_copy(update={"group_size": n}), H100, 40.0) for n in (8, 16))
    twice = {"System 2 reads the keyframes", "loss: reference, forward", "loss: policy, forward, again and back"}
    assert {name for name in one if abs(two[name] / one[name] - 2) < 1e-6} >= twice
    assert {name for name in one if two[name] == one[name]} == {"System 1 reads the clip", "SAM2 carries the group"}
    # With all weights trained their gradient is a pass more.
    name = "loss: policy, forward, again and back"
    whole = seconds(SIZES, LENGTHS, TrainingSettings(group_size=8), H100, 40.0)
    assert abs(whole[name] / one[name] - 4 / 3) < 1e-6
