"""What a model's weight files hold, compared with what the model needs before any of it is loaded.

Libraries load what is there: transformers gives a tensor that is in no file chance values, with a line in its report.
Here each tensor has to be there, in its shape, or it is said which file and which tensor are wrong. Only the files'
headers are read, whatever their size. A full Qwen2.5-Omni counts by its Thinker: the other parts are left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open

from backend.domain.errors import Misconfigured
from backend.profiles import Weights

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
#: What of a repository on the hub a Thinker needs.
_NEEDED = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
#: In a full Qwen2.5-Omni the Thinker's tensors have a prefix; these are of the parts that speak.
_THINKER, _OTHER_PARTS = "thinker.", ("talker.", "token2wav.")
_TOLD = 3

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    shape: Shape
    file: Path


def thinker_folder(weights: Weights) -> Path:
    """The folder of a Thinker's checkpoint: the local one, or the one into which it was fetched from the hub.

    Raises `Misconfigured` if there is no such repository or revision, or no way to it.
    """
    if weights.source != "huggingface":
        if not (weights.path / CONFIG).is_file():
            raise Misconfigured(f"{weights.path} has no {CONFIG}: it is no model's folder")
        return weights.path
    revision = weights.revision or "main"
    try:
        return Path(huggingface_hub.snapshot_download(weights.name, revision=revision, allow_patterns=_NEEDED))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise Misconfigured(
            f"Hugging Face has no {weights.name} at {revision}, or shows it only to those who accepted its terms "
            f"(HF_TOKEN): {error}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise Misconfigured(
            f"{weights.name} at {revision} is not in the local cache and Hugging Face can't be reached: {error}"
        ) from error


def of_thinker(folder: Path) -> dict[str, Found]:
    """Every tensor of the Thinker in the folder, under the name it has in a Thinker alone.

    Raises `Misconfigured`: no weight files, files that the index names and that aren't there, damaged ones, tensors
    that aren't in the file that the index says.
    """
    index = folder / INDEX
    found = _of_index(index) if index.is_file() else of_safetensors(folder / SINGLE)
    if any(name.startswith(_THINKER) for name in found):
        return {name.removeprefix(_THINKER): one for name, one in found.items() if name.startswith(_THINKER)}
    return {name: one for name, one in found.items() if not name.startswith(_OTHER_PARTS)}


def _of_index(index: Path) -> dict[str, Found]:
    try:
        place = {
            str(name): index.parent / str(file) for name, file in json.loads(index.read_text())["weight_map"].items()
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Misconfigured(f"{index} is no index of weight files: {type(error).__name__}: {error}") from error
    files = sorted(set(place.values()))
    if absent := [file for file in files if not file.is_file()]:
        lost = sorted(name for name, file in place.items() if file in absent)
        names = ", ".join(file.name for file in absent)
        raise Misconfigured(
            f"{index.parent}: {names} of {len(files)} weight files missing, and {len(lost)} tensors with it, "
            f"{_some(lost)}; copy or download it again"
        )
    found = {name: one for file in files for name, one in of_safetensors(file).items()}
    for name, file in sorted(place.items()):
        if name not in found or found[name].file != file:
            raise Misconfigured(f"{file} has no tensor {name}, which {index} says it holds")
    return found


def of_safetensors(file: Path) -> dict[str, Found]:
    """Every tensor in the file. Raises `Misconfigured` if it isn't there or is damaged."""
    if not file.is_file():
        raise Misconfigured(f"there are no weights at {file}")
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: Found(tuple(opened.get_slice(name).get_shape()), file) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise Misconfigured(f"{file} is damaged, or was copied or downloaded in part only: {error}") from error


def require(needed: Mapping[str, Shape], found: Mapping[str, Found], where: Path) -> None:
    """Raises `Misconfigured` unless each tensor was found, in its shape."""
    wrong = [
        f"{found[name].file}: {name} is {_sizes(found[name].shape)}, the model takes {_sizes(shape)}"
        for name, shape in needed.items()
        if name in found and found[name].shape != shape
    ]
    if wrong:
        raise Misconfigured(f"{len(wrong)} tensors have another shape than the model: {_some(wrong, '; ')}")
    if absent := [name for name in needed if name not in found]:
        raise Misconfigured(
            f"{where} lacks {len(absent)} of the model's {len(needed)} tensors, {_some(absent)}; are these weights of "
            "this model, and whole?"
        )


def shapes(model: torch.nn.Module) -> dict[str, Shape]:
    """What the model loads, by name; of tensors that are one, the first."""
    seen, found = set[int](), dict[str, Shape]()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            found[name] = tuple(tensor.shape)
        seen.add(id(tensor))
    return found


def _sizes(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "one number"


def _some(names: list[str], between: str = ", ") -> str:
    more = len(names) - _TOLD
    return between.join(names[:_TOLD]) + (f" and {more} more" if more > 0 else "")
