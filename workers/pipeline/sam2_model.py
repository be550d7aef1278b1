"""SAM2 as a profile sizes it, with its weights: Meta's own classes and configurations."""

from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from backend.domain.errors import Misconfigured
from backend.profiles import SegmenterProfile, Weights
from workers.pipeline import torchvision_cpu, weight_files

torchvision_cpu.install()

from safetensors.torch import load_file  # noqa: E402  (after torchvision was made importable)
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2_video_predictor  # noqa: E402  (as above)

#: What Meta compiles in its predictor for video, but for the prompt encoder, which is called once a prompt.
_COMPILED = ("image_encoder", "memory_attention", "memory_encoder", "sam_mask_decoder")


class _SharedPositions(torch.nn.Module):
    """The positions of a feature map, the same memory for every picture of a batch; Meta's module copies them."""

    def __init__(self, positions: torch.nn.Module) -> None:
        super().__init__()
        self._positions = positions

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        one: torch.Tensor = self._positions(features[:1])
        return one.expand(len(features), -1, -1, -1)


def _keep_positions(trunk: Any) -> None:
    """Have the image encoder's embeddings of places, which Meta's module interpolates anew for every picture, made once
    for each size of its grid. For weights that don't change any more."""
    made, kept = trunk._get_pos_embed, dict[tuple[int, int], torch.Tensor]()

    def places(grid: tuple[int, int]) -> torch.Tensor:
        size = int(grid[0]), int(grid[1])
        if size not in kept:
            kept[size] = made(size).contiguous()
        return kept[size]

    trunk._get_pos_embed = places


def build_model(profile: SegmenterProfile, device: str) -> Any:
    """Meta's video predictor as the profile sizes it, without its weights."""
    model = build_sam2_video_predictor(
        profile.config,
        None,
        device=device,
        hydra_overrides_extra=list(profile.overrides),
        apply_postprocessing=False,
    )
    neck = model.image_encoder.neck
    neck.position_encoding = _SharedPositions(neck.position_encoding)
    return model


def load_model(profile: SegmenterProfile, device: str) -> Any:
    """`build_model` with the profile's weights, from a safetensors file or as Meta publishes them on the hub.

    Raises `Misconfigured` if they are not where they are said to be, are none of Meta's on the hub, or not those of
    this size; then it says which file and which tensor. Or if they are to be compiled by a backend that isn't here.
    """
    file = profile.weights.path if profile.weights.source == "path" else _from_hub(profile.weights)
    model = build_model(profile, device)
    weights = _read(file)
    found = {name: weight_files.Found(tuple(tensor.shape), file) for name, tensor in weights.items()}
    weight_files.require(weight_files.shapes(model), found, file)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    if profile.torch_compile is None:
        # What is compiled is traced whole, and no dictionary can be kept in a graph.
        _keep_positions(model.image_encoder.trunk)
    else:
        _compile(model, profile.torch_compile)
    return model


def _compile(model: Any, backend: str) -> None:
    """Have what does the work compiled, each part whole, when it is called first; so the state dict's names stay."""
    if backend not in torch.compiler.list_backends(exclude_tags=()):
        known = ", ".join(torch.compiler.list_backends())
        raise Misconfigured(f"the segmenter's torch_compile = {backend!r} is no backend that torch has here: {known}")
    for name in _COMPILED:
        part = getattr(model, name)
        part.forward = torch.compile(part.forward, backend=backend, fullgraph=True)


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        weight_files.of_safetensors(file)
        return load_file(file)
    # Mapped, so that what is loaded is not in memory twice.
    weights: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["model"]
    return weights


def _from_hub(weights: Weights) -> Path:
    """The checkpoint's local file, of the revision that the profile pins; the package's own loader takes none."""
    if weights.name not in HF_MODEL_ID_TO_FILENAMES:
        known = ", ".join(sorted(HF_MODEL_ID_TO_FILENAMES))
        raise Misconfigured(f"the segmenter's weights {weights.name!r} are none of Meta's on the hub: {known}")
    _, file_name = HF_MODEL_ID_TO_FILENAMES[weights.name]
    return Path(huggingface_hub.hf_hub_download(weights.name, file_name, revision=weights.revision))
