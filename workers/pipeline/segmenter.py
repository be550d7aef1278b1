"""The segmenter: Meta's SAM2 carries boxes and masks from their frames through the clip, forward and in reverse.

Detections of a clip share the encodings of its frames; those prompted on the same frame go through memory attention,
decoder and memory encoder as one batch. Unlike Meta's video predictor, only the memories that the model can still read
are kept, frames stay on disk and masks leave as run lengths, made in a thread of their own and handed over chunk by
chunk, so that memory doesn't grow with the length of the video. Groups of detections are independent of each other, and
so are walks over different stretches of the clip; both are left to threads where there are cores for them. With each
chunk goes what the tracker remembers then, so that another process can go on from there.
"""

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask
from backend.domain.masks import decode_mask
from backend.ports.pipeline import CarriedMask, Checkpoints, Estimate, Way
from backend.profiles import SegmenterProfile
from workers.pipeline import tracker_state
from workers.pipeline.carried import Carried
from workers.pipeline.encoding import Features, FrameEncoder
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.sam2_model import load_model
from workers.pipeline.scratch import ScratchCheckpoints
from workers.pipeline.sizing import masks_at
from workers.pipeline.sweeps import Group, Memory, Sweep, plan, walk

#: ImageNet statistics, which Meta's loader normalises with.
PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Room for features of a clip's frames: at 1024 px a frame is 8.4 MB in bfloat16 (4.2 M numbers in three maps).
FEATURE_CACHE_BYTES = 512 * 2**20
#: SAM's labels of the two corners of a box prompt.
BOX_CORNERS = (2, 3)
#: Few enough that there are batches for several cores, many enough that a batch isn't all overhead. Not a matter of how
#: many cores there are: another batch is rounded otherwise.
_CPU_ROWS = 8
#: Batches whose masks wait to be brought to the video's size while the tracker goes on.
_MASKS_BEHIND = 8
#: Counts up with every change of what a tracker's state means: older states are not gone on from.
_STATE_FORM = 1


@dataclass(frozen=True, slots=True)
class BoxPrompt:
    frame_index: int
    box_xyxy_px: Box


@dataclass(frozen=True, slots=True)
class MaskPrompt:
    """A mask at source resolution that is taken as it is; SAM2 carries it from there."""

    frame_index: int
    mask: Mask


Prompt = BoxPrompt | MaskPrompt
#: Has a batch's masks made: rows, frame, mask logits (n, 1, h, w), predicted IoUs (n, 1) and object scores (n, 1).
_Sized = Callable[[list[int], int, torch.Tensor, torch.Tensor, torch.Tensor], Future[list[CarriedMask]]]


@dataclass(slots=True)
class Propagation:
    """What one prompt became: a mask on each frame where SAM2 sees the thing, and what SAM2 makes of it there.
    `span`: the frames that it was carried to, None for the whole clip."""

    masks: Mapping[int, Mask] = field(default_factory=dict)
    estimates: Mapping[int, Estimate] = field(default_factory=dict)
    span: range | None = None

    def covers(self, frame_index: int) -> bool:
        return self.span is None or frame_index in self.span


class Segmenter:
    def __init__(self, profile: SegmenterProfile, device: str, feature_cache_bytes: int = FEATURE_CACHE_BYTES) -> None:
        self._profile, self.device = profile, torch.device(device)
        self._feature_cache_bytes = feature_cache_bytes
        self._encoder: FrameEncoder | None = None
        self.model = load_model(profile, device)
        self.model.eval()
        self._mean = torch.tensor(PIXEL_MEAN, device=self.device)[:, None, None]
        self._std = torch.tensor(PIXEL_STD, device=self.device)[:, None, None]

    @property
    def size_px(self) -> int:
        return int(self.model.image_size)

    @property
    def encoder_batch_size(self) -> int:
        return self._profile.encoder_batch_size

    def autocast(self) -> AbstractContextManager[Any]:
        if self._profile.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self._profile.dtype))

    def keep(self, frames: FrameStore | None) -> None:
        """From now on, features of these frames are kept from one `propagate` to the next; None: of none."""
        if self._encoder is None or self._encoder.frames is not frames:
            if self._encoder is not None:
                self._encoder.close()
            self._encoder = None if frames is None else self._new_encoder(frames)

    def _new_encoder(self, frames: FrameStore) -> FrameEncoder:
        return FrameEncoder(self, frames, self._feature_cache_bytes, self._lanes())

    def encode_stored(self, count: int) -> None:
        """The first `count` of the frames that are kept are stored: they are encoded meanwhile, where their features
        can be kept."""
        if self._encoder is not None:
            self._encoder.encode_stored(count)

    def propagate(
        self,
        frames: FrameStore,
        prompts: Sequence[Prompt],
        source_size: tuple[int, int],
        on_progress: Callable[[float], None] = lambda _: None,
        spans: Sequence[range] | None = None,
        checkpoints: Checkpoints | None = None,
        round_index: int = 0,
    ) -> list[Propagation]:
        """One `Propagation` a prompt, in order; progress goes from 0 to 1.

        `source_size`: (width, height) of the masks. `spans`: of each prompt the frames it is carried to, its own among
        them; all, if not given. What it becomes on a frame is the same in any span. With `checkpoints`, what is there
        of that round already isn't done again, and the masks are read from there; else they lie in a scratch file.
        """
        count = frames.frame_count
        kept = checkpoints or ScratchCheckpoints()
        groups = self._groups(prompts, spans or [range(count)] * len(prompts), source_size)
        forward, back = plan(groups, self._reach, count)
        sweeps = [*forward, *back]
        begun = kept.begin(round_index, _plan_digest(sweeps, source_size, count), [len(s.order) for s in sweeps])
        encoder = self._encoder
        if encoder is None or encoder.frames is not frames:
            encoder = self._new_encoder(frames)

        with ThreadPoolExecutor(1, "masks") as sizing:

            def sized(*of: Any) -> Future[list[CarriedMask]]:
                return sizing.submit(masks_at, source_size, self._profile.fill_hole_area, *of)

            def advance(sweep: Sweep, pool: Executor | None) -> Iterator[None]:
                yield from self._advance(sweep, pool, encoder, kept, round_index, begun.get(sweep.number), sized)

            walk(forward, back, advance, self._lanes(), on_progress)
        return [
            Propagation(
                Carried(kept, round_index, row, count, lambda one: one.mask),
                Carried(kept, round_index, row, count, lambda one: one.estimate),
                None if spans is None else spans[row],
            )
            for row in range(len(prompts))
        ]

    def _advance(
        self, sweep: Sweep, pool: Executor | None, encoder: FrameEncoder, checkpoints: Checkpoints, round_index: int,
        begun: Way | None, sized: _Sized,
    ) -> Iterator[None]:  # fmt: skip
        """Carry the sweep's groups on from where they stand; masks and memories are handed over chunk by chunk."""
        frame_count = encoder.frame_count
        done, steps, masks = 0, len(sweep.order), list[CarriedMask]()
        coming = deque[Future[list[CarriedMask]]]()
        if begun is not None:
            done = begun.done
            tracker_state.restore(sweep.groups, begun.state, self.device)
            yield from (None for _ in range(done))
        for frame_index, features in encoder.walk(sweep.order[done:], pool):
            rest = (frame_index, features, frame_count, sweep.reverse, sized)
            active = sweep.active(frame_index)
            if pool is None:
                found = [self._step(group, *rest) for group in active]
            else:
                found = [step.result() for step in [pool.submit(self._step, group, *rest) for group in active]]
            coming += (future for future in found if future is not None)
            done += 1
            if done == steps:
                sweep.end()
            is_whole = done == steps or done % checkpoints.chunk_frames == 0
            while len(coming) > (0 if is_whole else _MASKS_BEHIND):
                masks += coming.popleft().result()
            if is_whole:
                state = tracker_state.saved(sweep.groups) if checkpoints.resumable else b""
                checkpoints.commit(round_index, sweep.number, Way(steps, done, state), masks)
                masks = []
            yield

    def _lanes(self) -> int:
        """Threads that the cores have room for beside those of the kernels; an accelerator works in turn anyway."""
        if self.device.type != "cpu":
            return 1
        return max(1, (os.cpu_count() or 1) // torch.get_num_threads())

    @property
    def _rows(self) -> int:
        """How many rows are a batch: an accelerator takes all at once, cores take batches beside each other."""
        return _CPU_ROWS if self.device.type == "cpu" else sys.maxsize

    @property
    def _near(self) -> int:
        """How many frames back the model reads features of memories."""
        return int((self.model.num_maskmem - 1) * self.model.memory_temporal_stride_for_eval)

    @property
    def _reach(self) -> int:
        """How many frames back the model reads memories; those beyond `_near` only for their object pointers."""
        return int(max(self.model.max_obj_ptrs_in_encoder, self._near + 1))

    def _groups(self, prompts: Sequence[Prompt], spans: Sequence[range], source_size: tuple[int, int]) -> list[Group]:
        """Prompts of one kind by frame and span, earliest first, at most `_rows` together, at the model's square
        input."""
        by_frame: dict[tuple[int, range, bool], list[int]] = {}
        for row, (prompt, span) in enumerate(zip(prompts, spans, strict=True)):
            by_frame.setdefault((prompt.frame_index, span, isinstance(prompt, MaskPrompt)), []).append(row)
        groups = []
        for (frame_index, span, _), rows in sorted(by_frame.items(), key=lambda item: (item[0][0], item[0][1].start)):
            for begin in range(0, len(rows), self._rows):
                some = rows[begin : begin + self._rows]
                boxes = self._boxes([p for r in some if isinstance(p := prompts[r], BoxPrompt)], source_size)
                masks = self._mask_inputs([p for r in some if isinstance(p := prompts[r], MaskPrompt)])
                groups.append(Group(frame_index, span, some, boxes, masks))
        return groups

    def _boxes(self, prompts: Sequence[BoxPrompt], source_size: tuple[int, int]) -> torch.Tensor:
        scale = [self.size_px / source_size[0], self.size_px / source_size[1]] * 2
        corners = [[p.box_xyxy_px.x1, p.box_xyxy_px.y1, p.box_xyxy_px.x2, p.box_xyxy_px.y2] for p in prompts]
        return (torch.tensor(corners).view(-1, 4) * torch.tensor(scale)).to(self.device)

    def _mask_inputs(self, prompts: Sequence[MaskPrompt]) -> torch.Tensor | None:
        """(n, 1, size, size), 0 or 1, as Meta's `add_new_mask` makes them of masks of any size; None: no prompt."""
        if not prompts:
            return None
        pixels = torch.from_numpy(np.stack([decode_mask(prompt.mask) for prompt in prompts])).float()[:, None]
        square = (self.size_px, self.size_px)
        if pixels.shape[-2:] != square:
            resized = F.interpolate(pixels, square, mode="bilinear", align_corners=False, antialias=True)
            pixels = (resized >= 0.5).float()
        return pixels.to(self.device)

    def _step(
        self, group: Group, frame_index: int, features: Features, frame_count: int, reverse: bool, sized: _Sized
    ) -> Future[list[CarriedMask]] | None:
        """Track the group's rows on one frame; their masks are on their way, None where the frame wants none. In a
        thread of its own."""
        with torch.inference_mode(), self.autocast():
            found = self._track(group, frame_index, features, frame_count, reverse)
        return sized(group.rows, frame_index, *found) if frame_index in group.span else None

    def _track(
        self, group: Group, frame_index: int, features: Features, frame_count: int, reverse: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mask logits (rows, 1, h, w), predicted IoU and object score (rows, 1 each); the group remembers what later
        frames read."""
        rows, is_prompted = len(group.rows), frame_index == group.frame_index
        vision, positions, sizes = features
        vision = [f.expand(-1, rows, -1) for f in vision]
        positions = [p.expand(-1, rows, -1) for p in positions]
        points, masks = None, group.masks if is_prompted else None
        if is_prompted and masks is None:
            labels = torch.tensor([BOX_CORNERS], dtype=torch.int32, device=self.device).expand(rows, 2)
            points = {"point_coords": group.boxes.view(rows, 2, 2), "point_labels": labels}
        # track_step of the same class does just this, but drops the predicted IoU, which speaks for the mask.
        current, heads, _, _ = self.model._track_step(
            frame_index, is_prompted, vision, positions, sizes, points, masks, _as_meta_keeps_it(group), frame_count,
            reverse, None,
        )  # fmt: skip
        _, _, ious, low_res, high_res, pointer, object_logits = heads
        self.model._encode_memory_in_output(vision, sizes, points, True, high_res, object_logits, current)
        if group.positions is None:
            # Meta's module lays them out otherwise the first time it is asked.
            in_a_row = torch.contiguous_format
            group.positions = [p[:1].clone(memory_format=in_a_row) for p in current["maskmem_pos_enc"]]
        self._remember(
            group, frame_index, reverse,
            {"obj_ptr": pointer.contiguous(), "maskmem_features": current["maskmem_features"].contiguous()},
        )  # fmt: skip
        return low_res, ious, object_logits

    def _remember(self, group: Group, frame_index: int, reverse: bool, memory: Memory) -> None:
        """Keep what later frames read of this one, and forget what none will read any more."""
        if frame_index == group.frame_index:
            group.conditioning = memory
            return
        backward = 1 if reverse else -1
        group.memory[frame_index] = memory
        group.memory.pop(frame_index + backward * self._reach, None)
        if (far := group.memory.get(frame_index + backward * self._near)) is not None:
            group.memory[frame_index + backward * self._near] = _pointer_of(far)
        if not reverse and frame_index - group.frame_index < self._reach:
            is_near = frame_index - group.frame_index < self._near
            group.ahead[frame_index] = memory if is_near else _pointer_of(memory)

    def encode(self, pixels: NDArray[np.uint8]) -> list[Features]:
        """Features of each of the frames (n, size, size, 3)."""
        with torch.inference_mode(), self.autocast():
            images = torch.from_numpy(pixels.astype(np.float32)).to(self.device).permute(0, 3, 1, 2)
            encoded = self.model.forward_image((images / 255 - self._mean) / self._std)
            _, vision, positions, sizes = self.model._prepare_backbone_features(encoded)
            # Clones: a slice would keep the whole batch alive after its neighbours were dropped.
            return [
                ([f[:, n : n + 1].clone() for f in vision], [p[:, :1] for p in positions], sizes)
                for n in range(len(pixels))
            ]


def _plan_digest(sweeps: Sequence[Sweep], source_size: tuple[int, int], frame_count: int) -> str:
    """What a round does, in short: its ways, boxes and masks. Another digest's states lead elsewhere."""
    ways = [(s.order, s.reverse, [(g.frame_index, g.span, g.rows, g.boxes.tolist()) for g in s.groups]) for s in sweeps]
    sha = hashlib.sha256(repr((_STATE_FORM, ways, source_size, frame_count)).encode())
    for masks in (group.masks for sweep in sweeps for group in sweep.groups):
        if masks is not None:
            sha.update(masks.cpu().numpy().tobytes())
    return sha.hexdigest()


def _as_meta_keeps_it(group: Group) -> dict[str, dict[int, dict[str, Any]]]:
    """The group's memories in the form that Meta's tracker reads."""
    shared = [p.expand(len(group.rows), -1, -1, -1) for p in group.positions or ()]
    conditioning = {} if group.conditioning is None else {group.frame_index: group.conditioning}
    return {
        name: {i: {**memory, "maskmem_pos_enc": shared} for i, memory in memories.items()}
        for name, memories in (("cond_frame_outputs", conditioning), ("non_cond_frame_outputs", group.memory))
    }


def _pointer_of(memory: Memory) -> Memory:
    return {"obj_ptr": memory["obj_ptr"]}
