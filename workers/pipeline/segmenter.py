"""The segmenter: Meta's SAM2 carries boxes from their keyframes through every frame, forward and in reverse.

All detections of a clip share one encoding of its frames and one pass in each direction (the appendix's single forward
pass); those prompted on the same frame go through memory attention, decoder and memory encoder as one batch. Unlike
Meta's video predictor, only the memories that the model can still read are kept, frames stay on disk and masks leave
as run lengths, so that memory doesn't grow with the length of the video. Groups of detections are independent of each
other, and frames can be encoded before they are asked for; both is left to threads where there are cores for it.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.profiles import SegmenterProfile
from workers.pipeline import torchvision_cpu
from workers.pipeline.frame_store import FrameStore

torchvision_cpu.install()

from safetensors.torch import load_file  # noqa: E402  (after torchvision was made importable)
from sam2.build_sam import build_sam2_video_predictor, build_sam2_video_predictor_hf  # noqa: E402

#: ImageNet statistics, which Meta's loader normalises with.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: SAM's labels of the two corners of a box prompt.
BOX_CORNERS = (2, 3)


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    frame_index: int
    box_xyxy_px: Box


@dataclass(slots=True)
class Propagation:
    """What one prompt became: a mask on each frame where SAM2 sees the thing, and SAM2's own estimate of its IoU
    there."""

    masks: dict[int, Mask] = field(default_factory=dict)
    predicted_iou: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """The prompts of one frame: rows of one batch. `rows` are indices into the caller's prompts."""

    frame_index: int
    rows: list[int]
    boxes: torch.Tensor  # (n, 4) in model pixels
    conditioning: dict[str, Any] | None = None
    memory: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: The first memories of the forward pass: the reverse pass begins with them behind it, as in Meta's predictor.
    ahead: dict[int, dict[str, Any]] = field(default_factory=dict)


_Features = tuple[list[torch.Tensor], list[torch.Tensor], list[tuple[int, int]]]


class _SharedPositions(torch.nn.Module):
    """The positions of a feature map, the same memory for every picture of a batch; Meta's module copies them."""

    def __init__(self, positions: torch.nn.Module) -> None:
        super().__init__()
        self._positions = positions

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        one: torch.Tensor = self._positions(features[:1])
        return one.expand(len(features), -1, -1, -1)


def build_model(profile: SegmenterProfile, device: str) -> Any:
    """Meta's video predictor as the profile sizes it; with its weights if they are on the hub, else without."""
    options = {"device": device, "hydra_overrides_extra": list(profile.overrides), "apply_postprocessing": False}
    if profile.weights.source == "huggingface":
        model = build_sam2_video_predictor_hf(profile.weights.name, **options)
    else:
        model = build_sam2_video_predictor(profile.config, **options)
    neck = model.image_encoder.neck
    neck.position_encoding = _SharedPositions(neck.position_encoding)
    return model


class Segmenter:
    def __init__(self, profile: SegmenterProfile, device: str, feature_cache_bytes: int = 512 * 2**20) -> None:
        self._profile, self.device = profile, torch.device(device)
        self._feature_cache_bytes = feature_cache_bytes
        self.model = build_model(profile, device)
        if profile.weights.source == "path":
            weights = load_file(profile.weights.path)
            self.model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        self.model.eval()
        self._mean = torch.tensor(PIXEL_MEAN, device=self.device)[:, None, None]
        self._std = torch.tensor(PIXEL_STD, device=self.device)[:, None, None]

    @property
    def size_px(self) -> int:
        return int(self.model.image_size)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._profile.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self._profile.dtype))

    def propagate(
        self,
        frames: FrameStore,
        prompts: Sequence[BoxPrompt],
        source_size: tuple[int, int],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> list[Propagation]:
        """One `Propagation` a prompt, in order. `source_size`: (width, height) of the masks; progress goes from 0 to
        1."""
        results = [Propagation() for _ in prompts]
        groups = self._groups(prompts, source_size)
        if not groups:
            return results
        first, last, count = groups[0].frame_index, groups[-1].frame_index, frames.frame_count
        steps = (count - first) + (last + 1)
        with ThreadPoolExecutor(self._lanes(), "segmenter") as pool:
            encoder = _Encoder(self, frames, pool)

            def advance(active: list[_Group], frame_index: int, reverse: bool) -> None:
                features = encoder.features(frame_index, reverse)
                tracked = [
                    pool.submit(self._step, group, frame_index, features, count, reverse, results, source_size)
                    for group in active
                ]
                for one in tracked:
                    one.result()

            for done, frame_index in enumerate(range(first, count)):
                advance([g for g in groups if g.frame_index <= frame_index], frame_index, reverse=False)
                on_progress((done + 1) / steps)
            for group in groups:
                group.memory = group.ahead
            for done, frame_index in enumerate(range(last, -1, -1)):
                if active := [g for g in groups if g.frame_index > frame_index]:
                    advance(active, frame_index, reverse=True)
                on_progress((count - first + done + 1) / steps)
        return results

    def _lanes(self) -> int:
        """Threads that the cores have room for beside those of the kernels; an accelerator works in turn anyway."""
        if self.device.type != "cpu":
            return 1
        return max(1, (os.cpu_count() or 1) // torch.get_num_threads())

    def _groups(self, prompts: Sequence[BoxPrompt], source_size: tuple[int, int]) -> list[_Group]:
        """Prompts by frame, earliest first; boxes scaled to the model's square input."""
        scale = [self.size_px / source_size[0], self.size_px / source_size[1]] * 2
        by_frame: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            by_frame.setdefault(prompt.frame_index, []).append(row)
        groups = []
        for frame_index, rows in sorted(by_frame.items()):
            corners = [prompts[r].box_xyxy_px for r in rows]
            boxes = torch.tensor([[b.x1, b.y1, b.x2, b.y2] for b in corners]) * torch.tensor(scale)
            groups.append(_Group(frame_index, rows, boxes.to(self.device)))
        return groups

    def _step(
        self, group: _Group, frame_index: int, features: _Features, frame_count: int, reverse: bool,
        results: list[Propagation], source_size: tuple[int, int],
    ) -> None:  # fmt: skip
        """Track the group's rows on one frame and write their masks; in a thread of its own."""
        with torch.inference_mode(), self._autocast():
            low_res, ious = self._track(group, frame_index, features, frame_count, reverse)
            self._write(group.rows, frame_index, low_res.float(), ious.float(), results, source_size)

    def _track(
        self, group: _Group, frame_index: int, features: _Features, frame_count: int, reverse: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (rows, 1, h, w) and predicted IoU (rows, 1); the group remembers what later frames read."""
        rows, is_prompted = len(group.rows), frame_index == group.frame_index
        vision, positions, sizes = features
        vision = [f.expand(-1, rows, -1) for f in vision]
        positions = [p.expand(-1, rows, -1) for p in positions]
        points = None
        if is_prompted:
            labels = torch.tensor([BOX_CORNERS], dtype=torch.int32, device=self.device).expand(rows, 2)
            points = {"point_coords": group.boxes.view(rows, 2, 2), "point_labels": labels}
        conditioning = {} if group.conditioning is None else {group.frame_index: group.conditioning}
        memory = {"cond_frame_outputs": conditioning, "non_cond_frame_outputs": group.memory}
        # track_step of the same class does just this, but drops the predicted IoU, which is our confidence.
        current, heads, _, _ = self.model._track_step(
            frame_index, is_prompted, vision, positions, sizes, points, None, memory, frame_count, reverse, None
        )
        _, _, ious, low_res, high_res, pointer, object_logits = heads
        self.model._encode_memory_in_output(vision, sizes, points, True, high_res, object_logits, current)
        # What later frames read of this one; the rest of `current` would only take up memory.
        kept = {"obj_ptr": pointer} | {name: current[name] for name in ("maskmem_features", "maskmem_pos_enc")}
        if is_prompted:
            group.conditioning = kept
        else:
            reach = max(self.model.max_obj_ptrs_in_encoder, self.model.num_maskmem)
            group.memory[frame_index] = kept
            group.memory.pop(frame_index + reach if reverse else frame_index - reach, None)
            if not reverse and frame_index - group.frame_index < reach:
                group.ahead[frame_index] = kept
        return low_res, ious

    def _write(
        self, rows: list[int], frame_index: int, low_res: torch.Tensor, ious: torch.Tensor,
        results: list[Propagation], source_size: tuple[int, int],
    ) -> None:  # fmt: skip
        width, height = source_size
        best = ious.amax(-1).clamp(0, 1).tolist()
        for position, row in enumerate(rows):
            logits = low_res[position : position + 1]
            if not bool((logits > 0).any()):
                continue  # bilinear interpolation of non-positive logits sets no pixel
            mask = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0, 0] > 0
            encoded = encode_mask(mask.cpu().numpy())
            if encoded.area:
                results[row].masks[frame_index] = encoded
                results[row].predicted_iou[frame_index] = best[position]


class _Encoder:
    """Image features by frame, computed in batches and kept as far as the cache's budget goes.

    The forward pass leaves its latest frames here, which the reverse pass asks for first; what was dropped is
    encoded again.
    """

    def __init__(self, segmenter: Segmenter, frames: FrameStore, pool: ThreadPoolExecutor) -> None:
        self._segmenter, self._frames, self._pool = segmenter, frames, pool
        self._batch = segmenter._profile.encoder_batch_size
        self._cache: OrderedDict[int, _Features] = OrderedDict()
        self._bytes = 0
        self._coming: tuple[range, Future[list[_Features]]] | None = None

    def features(self, frame_index: int, reverse: bool) -> _Features:
        """The features of a frame; those that the pass asks for next are begun meanwhile."""
        if frame_index not in self._cache:
            if self._coming is None or frame_index not in self._coming[0]:
                self._begin(frame_index, reverse)
            self._take()
        self._cache.move_to_end(frame_index)
        if self._coming is None:
            step = -1 if reverse else 1
            reach = range(frame_index + step, frame_index + step * (self._batch + 1), step)
            missing = (i for i in reach if 0 <= i < self._frames.frame_count and i not in self._cache)
            if (upcoming := next(missing, None)) is not None:
                self._begin(upcoming, reverse)
        return self._cache[frame_index]

    def _begin(self, frame_index: int, reverse: bool) -> None:
        begin = max(0, frame_index - self._batch + 1) if reverse else frame_index
        end = frame_index + 1 if reverse else min(self._frames.frame_count, frame_index + self._batch)
        pixels = self._frames.read(begin, end)
        self._coming = range(begin, end), self._pool.submit(self._encode, pixels)

    def _take(self) -> None:
        """Put what was begun into the cache, and drop what was asked for longest ago if it is too much."""
        assert self._coming is not None
        indices, encoded = self._coming
        self._coming = None
        for frame_index, one in zip(indices, encoded.result(), strict=True):
            if frame_index not in self._cache:
                self._cache[frame_index] = one
                self._bytes += sum(f.nbytes for f in one[0])
        oldest_first = [i for i in self._cache if i not in indices]
        while self._bytes > self._segmenter._feature_cache_bytes and oldest_first:
            dropped, _, _ = self._cache.pop(oldest_first.pop(0))
            self._bytes -= sum(f.nbytes for f in dropped)

    def _encode(self, pixels: NDArray[np.uint8]) -> list[_Features]:
        """Features of each of the frames (n, size, size, 3)."""
        segmenter = self._segmenter
        with torch.inference_mode(), segmenter._autocast():
            images = torch.from_numpy(pixels.astype(np.float32)).to(segmenter.device).permute(0, 3, 1, 2)
            encoded = segmenter.model.forward_image((images / 255 - segmenter._mean) / segmenter._std)
            _, vision, positions, sizes = segmenter.model._prepare_backbone_features(encoded)
            # Clones: a slice would keep the whole batch alive after its neighbours were dropped.
            return [
                ([f[:, n : n + 1].clone() for f in vision], [p[:, :1] for p in positions], sizes)
                for n in range(len(pixels))
            ]
