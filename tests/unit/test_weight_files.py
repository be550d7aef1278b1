"""Weights of the models: loaded once into memory, and what is wrong with them is said with file and tensor."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers.utils import is_flash_attn_2_available

from backend.domain.errors import Misconfigured
from backend.profiles import REPOSITORY_ROOT, Weights, load_profile
from workers.pipeline import weight_files
from workers.pipeline.engines.thinker import Qwen2_5OmniThinkerConfig, load_model, without_weights
from workers.pipeline.sam2_model import load_model as load_segmenter

SMALL = REPOSITORY_ROOT / "workers/shapeworld/checkpoints/system1"
NORM = "model.norm.weight"


def weights_at(folder: Path) -> Weights:
    return Weights(source="path", name=str(folder), license="none", trained_on="nothing")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """System 1 of the proving ground, its tensors dealt to three files."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    shutil.copy(SMALL / "config.json", folder)
    tensors = load_file(SMALL / "model.safetensors")
    names = sorted(tensors)
    place = {name: f"model-0000{1 + n % 3}-of-00003.safetensors" for n, name in enumerate(names)}
    for file in set(place.values()):
        save_file({n: tensors[n] for n in names if place[n] == file}, folder / file, {"format": "pt"})
    (folder / weight_files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def rewrite(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> str:
    """Change a tensor where it lies (None: remove it); the name of its file."""
    file = str(json.loads((folder / weight_files.INDEX).read_text())["weight_map"][name])
    tensors = load_file(folder / file)
    changed = change(tensors.pop(name))
    save_file(tensors if changed is None else tensors | {name: changed}, folder / file, {"format": "pt"})
    return file


def test_sharded_weights_are_the_same_weights(sharded: Path) -> None:
    one, other = load_model(weights_at(SMALL), "float32"), load_model(weights_at(sharded), "float32")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_of_a_whole_qwen_the_thinker_is_taken(sharded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    config = json.loads((SMALL / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_omni", "thinker_config": config}))
    tensors = {f"thinker.{name}": tensor for name, tensor in load_file(SMALL / "model.safetensors").items()}
    save_file(tensors | {"talker.lm_head.weight": torch.zeros(2, 3)}, folder / weight_files.SINGLE, {"format": "pt"})
    one, other = load_model(weights_at(sharded), "float32"), load_model(weights_at(folder), "float32")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_missing_file_is_named_with_what_is_in_it(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Misconfigured, match=r"model-00002-of-00003\.safetensors of 3 weight files missing") as error:
        load_model(weights_at(sharded), "float32")
    place = json.loads((sharded / weight_files.INDEX).read_text())["weight_map"]
    lost = sorted(name for name, file in place.items() if "00002" in file)
    assert f"{len(lost)} tensors with it, {lost[0]}" in str(error.value)


def test_a_tensor_of_another_shape_is_named_with_its_file(sharded: Path) -> None:
    file = rewrite(sharded, NORM, lambda tensor: torch.cat([tensor, tensor]))
    width = load_file(SMALL / "model.safetensors")[NORM].shape[0]
    with pytest.raises(Misconfigured, match=f"{file}: {NORM} is {2 * width}, the model takes {width}"):
        load_model(weights_at(sharded), "float32")


def test_a_tensor_that_is_not_where_the_index_says_is_named(sharded: Path) -> None:
    file = rewrite(sharded, NORM, lambda _: None)
    with pytest.raises(Misconfigured, match=f"{file} has no tensor {NORM}"):
        load_model(weights_at(sharded), "float32")


def test_a_tensor_that_is_nowhere_is_named_and_never_left_to_chance(sharded: Path) -> None:
    rewrite(sharded, NORM, lambda _: None)
    index = json.loads((sharded / weight_files.INDEX).read_text())
    del index["weight_map"][NORM]
    (sharded / weight_files.INDEX).write_text(json.dumps(index))
    with pytest.raises(Misconfigured, match=f"{sharded} lacks 1 of the model's [0-9]+ tensors, {NORM}"):
        load_model(weights_at(sharded), "float32")


def test_a_file_that_came_in_part_is_named(sharded: Path) -> None:
    file = sharded / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(Misconfigured, match=r"model-00003-of-00003\.safetensors is damaged, or was copied"):
        load_model(weights_at(sharded), "float32")


def test_a_folder_without_weights_or_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"has no config\.json"):
        load_model(weights_at(tmp_path), "float32")
    shutil.copy(SMALL / "config.json", tmp_path)
    with pytest.raises(Misconfigured, match=weight_files.SINGLE):
        load_model(weights_at(tmp_path), "float32")
    (tmp_path / weight_files.INDEX).write_text("[]")
    with pytest.raises(Misconfigured, match="is no index of weight files"):
        load_model(weights_at(tmp_path), "float32")


def test_weights_of_the_hub_are_those_of_the_revision(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision, "*.safetensors" in allow_patterns, "*" in allow_patterns))
        return str(sharded)

    hub = weights_at(sharded).model_copy(update={"source": "huggingface", "name": "a/thinker", "revision": "0123abc"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    load_model(hub, "float32")
    assert asked == [("a/thinker", "0123abc", True, False)]

    def away(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    with pytest.raises(Misconfigured, match="a/thinker at 0123abc is not in the local cache"):
        load_model(hub, "float32")


@pytest.mark.skipif(is_flash_attn_2_available(), reason="it is installed here")
def test_an_attention_that_is_not_installed_is_told() -> None:
    with pytest.raises(Misconfigured, match="attention = 'flash_attention_2' can't be had here"):
        load_model(weights_at(SMALL), "float32", "flash_attention_2")


def test_a_segmenter_of_another_size_is_named(tmp_path: Path) -> None:
    own = load_profile("shapeworld").segmenter
    tensors = load_file(own.weights.path)
    name = "memory_encoder.out_proj.weight"
    file = tmp_path / "wide.safetensors"
    save_file(tensors | {name: torch.zeros(7, 128, 1, 1)}, file)
    with pytest.raises(Misconfigured, match=rf"wide\.safetensors: {name} is 7×128×1×1, the model takes 64×128×1×1"):
        load_segmenter(own.model_copy(update={"weights": weights_at(file)}), "cpu")
    del tensors[name]
    save_file(tensors, file)
    with pytest.raises(Misconfigured, match=rf"wide\.safetensors lacks 1 of the model's [0-9]+ tensors, {name}"):
        load_segmenter(own.model_copy(update={"weights": weights_at(file)}), "cpu")


LOAD = """
import sys
from pathlib import Path
import torch
from backend.profiles import Weights
from workers.pipeline.engines.thinker import Qwen2_5OmniThinkerConfig, load_model, without_weights

def peak_kib():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

torch.zeros(1).sum()
weights = Weights(source="path", name=sys.argv[1], license="none", trained_on="nothing")
before = peak_kib()
weights.digest()
model = load_model(weights, "bfloat16").eval()
with torch.inference_mode():
    for parameter in model.parameters():
        assert parameter.flatten()[::1024].isfinite().all()  # a number of every page
size = sum(parameter.nbytes for parameter in model.parameters())
print(size, (peak_kib() - before) * 1024)
"""


def write_wide(folder: Path) -> None:
    """A Thinker of some hundred megabytes, in files of 60."""
    ears = {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "d_model": 64, "output_dim": 1024}
    eyes = {"depth": 1, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 1024}
    words = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16}
    config = Qwen2_5OmniThinkerConfig(
        audio_config=ears, vision_config=eyes, text_config=words | {"vocab_size": 32_000, "num_key_value_heads": 4}
    )
    model = without_weights(config).to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(number / 64)
    model.save_pretrained(folder, max_shard_size="60MB")


def test_sharded_weights_are_in_memory_once(tmp_path: Path) -> None:
    """Peak resident memory of a process that takes their digest, loads them and reads every one of them."""
    write_wide(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], capture_output=True, text=True, check=True)
    size, more = map(int, done.stdout.split())
    assert size > 200 * 2**20
    assert more <= 1.25 * size
