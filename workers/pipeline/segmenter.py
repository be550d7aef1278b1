"""The segmenter: Meta's SAM2 carries boxes from their keyframes through every frame, forward and in reverse.

All detections of a clip share one encoding of its frames and one pass in each direction (the appendix's single forward
pass); those prompted on the same frame go through memory attention, decoder and memory encoder as one batch. Unlike
Meta's video predictor, only the memories that the model can still read are kept, frames stay on disk and masks leave
as run lengths, so that memory doesn't grow with the length of the video.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.profiles import SegmenterProfile
from workers.pipeline import torchvision_cpu
from workers.pipeline.frame_store import FrameStore

torchvision_cpu.install()

from safetensors.torch import load_file  # noqa: E402  (after torchvision was made importable)
from sam2.build_sam import build_sam2_video_predictor, build_sam2_video_predictor_hf  # noqa: E402

#: ImageNet statistics, which Meta's loader normalises with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: SAM's labels of the two corners of a box prompt.
_BOX_CORNERS = (2, 3)


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


class Segmenter:
    def __init__(self, profile: SegmenterProfile, device: str, feature_cache_bytes: int = 512 * 2**20) -> None:
        self._profile, self.device = profile, torch.device(device)
        self._feature_cache_bytes = feature_cache_bytes
        options = {
            "device": device,
            "hydra_overrides_extra": list(profile.overrides),
            "apply_postprocessing": False,
        }
        if profile.weights.source == "huggingface":
            self.model = build_sam2_video_predictor_hf(profile.weights.name, **options)
        else:
            self.model = build_sam2_video_predictor(profile.config, **options)
            weights = load_file(profile.weights.path)
            self.model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        self.model.eval()
        self._mean = torch.tensor(_MEAN, device=self.device)[:, None, None]
        self._std = torch.tensor(_STD, device=self.device)[:, None, None]

    @property
    def size_px(self) -> int:
        return int(self.model.image_size)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._profile.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self._profile.dtype))

    @torch.inference_mode()
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
        encoder = _Encoder(self, frames)
        first, last, count = groups[0].frame_index, groups[-1].frame_index, frames.frame_count
        steps = (count - first) + (last + 1)
        with self._autocast():
            for done, frame_index in enumerate(range(first, count)):
                features = encoder.features(frame_index, reverse=False)
                for group in (g for g in groups if g.frame_index <= frame_index):
                    self._step(group, frame_index, features, frames.frame_count, False, results, source_size)
                on_progress((done + 1) / steps)
            for group in groups:
                group.memory = group.ahead
            for done, frame_index in enumerate(range(last, -1, -1)):
                active = [g for g in groups if g.frame_index > frame_index]
                if active:
                    features = encoder.features(frame_index, reverse=True)
                for group in active:
                    self._step(group, frame_index, features, frames.frame_count, True, results, source_size)
                on_progress((count - first + done + 1) / steps)
        return results

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
        """Track the group's rows on one frame and write their masks."""
        rows, is_prompted = len(group.rows), frame_index == group.frame_index
        vision, positions, sizes = features
        vision = [f.expand(-1, rows, -1) for f in vision]
        positions = [p.expand(-1, rows, -1) for p in positions]
        points = None
        if is_prompted:
            labels = torch.tensor([_BOX_CORNERS], dtype=torch.int32, device=self.device).expand(rows, 2)
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
        self._write(group.rows, frame_index, low_res.float(), ious.float(), results, source_size)

    def _write(
        self, rows: Iterable[int], frame_index: int, low_res: torch.Tensor, ious: torch.Tensor,
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

    def __init__(self, segmenter: Segmenter, frames: FrameStore) -> None:
        self._segmenter, self._frames = segmenter, frames
        self._cache: OrderedDict[int, _Features] = OrderedDict()
        self._bytes = 0

    def features(self, frame_index: int, reverse: bool) -> _Features:
        if frame_index not in self._cache:
            batch = self._segmenter._profile.encoder_batch_size
            begin = max(0, frame_index - batch + 1) if reverse else frame_index
            end = frame_index + 1 if reverse else min(self._frames.frame_count, frame_index + batch)
            self._encode(begin, end, keep=frame_index)
        self._cache.move_to_end(frame_index)
        return self._cache[frame_index]

    def _encode(self, begin: int, end: int, keep: int) -> None:
        segmenter = self._segmenter
        pixels = torch.from_numpy(self._frames.read(begin, end).astype(np.float32)).to(segmenter.device)
        images = (pixels.permute(0, 3, 1, 2) / 255 - segmenter._mean) / segmenter._std
        encoded = segmenter.model.forward_image(images)
        _, vision, positions, sizes = segmenter.model._prepare_backbone_features(encoded)
        for offset in range(end - begin):
            if begin + offset in self._cache:
                continue
            # Clones: a slice would keep the whole batch alive after its neighbours were dropped.
            one = [f[:, offset : offset + 1].clone() for f in vision]
            self._cache[begin + offset] = (one, [p[:, :1] for p in positions], sizes)
            self._bytes += sum(f.nbytes for f in one)
        oldest_first = [i for i in self._cache if not begin <= i < end]
        while self._bytes > segmenter._feature_cache_bytes and oldest_first:
            dropped, _, _ = self._cache.pop(oldest_first.pop(0))
            self._bytes -= sum(f.nbytes for f in dropped)
        assert keep in self._cache
