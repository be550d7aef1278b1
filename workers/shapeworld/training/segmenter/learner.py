"""The segmenter in training: boxes first without a picture, then single pictures, small and large, then clips."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from backend.profiles import SegmenterProfile
from workers.pipeline.segmenter import BOX_CORNERS, PIXEL_MEAN, PIXEL_STD
from workers.shapeworld.training.segmenter.batches import ClipBatch, ClipSource
from workers.shapeworld.training.segmenter.losses import LOSS_SCALE, DenseHeads, MaskLoss, mask_loss
from workers.shapeworld.training.segmenter.model import new_model, set_side
from workers.shapeworld.training.segmenter.recipe import recipe
from workers.shapeworld.training.segmenter.validation import validation_batches
from workers.shapeworld.training.trainee import Figures, Phase, Trainee

#: Distances between frames count as in long clips, where memory reads as many pointers as it can.
_ENDLESS = 10_000


class SegmenterTrainee(Trainee):
    """Meta's classes with the auxiliary heads of `DenseHeads`."""

    def __init__(
        self, profile: SegmenterProfile, seed: int, device: str, phases: tuple[Phase, ...] | None = None
    ) -> None:
        torch.manual_seed(seed)
        self._device = torch.device(device)
        self.model = new_model(profile, device)
        self._side_px = int(self.model.image_size)
        self.phases = recipe(self._side_px) if phases is None else phases
        self.source = ClipSource(seed)
        width = int(self.model.hidden_dim)
        self._heads = DenseHeads(width // 8, width).to(self._device)
        self.modules = nn.ModuleDict({"model": self.model, "heads": self._heads})
        self._raw_logits: list[torch.Tensor] = []
        self.model.sam_mask_decoder.register_forward_hook(lambda _, __, made: self._raw_logits.append(made[0]))
        self._mean, self._std = (torch.tensor(of, device=self._device) for of in (PIXEL_MEAN, PIXEL_STD))

    def begin(self, phase: Phase) -> list[torch.optim.Optimizer]:
        set_side(self.model, int(phase.option("side_px")))
        # Without pictures, the decoder and what encodes boxes are all there is to learn.
        of = ".sam_" if phase.option("fill") else ""
        parameters = [p for name, p in self.modules.named_parameters() if of in name]
        decayed, free = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]
        return [torch.optim.AdamW([group | {"scale": 1.0} for group in groups], betas=(0.9, 0.98))]

    def loss(self, phase: Phase, step: int, batch: Any) -> tuple[torch.Tensor, Figures]:  # noqa: ARG002 (the base class names it)
        if phase.option("fill"):
            found = self._fill(batch)
            return found.loss, {"loss": float(found.loss.detach()), "iou": float(found.iou.mean())}
        frames, auxiliary = self._track(
            batch, int(phase.option("loss_scale", LOSS_SCALE)), phase.option("auxiliary", 1)
        )
        loss = torch.stack([frame.loss for frame in frames]).mean()
        ious = torch.cat([frame.iou for frame in frames])
        figures = {
            "loss": float(loss.detach()), "iou": float(ious.mean()) if len(ious) else 0.0,
            "auxiliary": float(auxiliary.detach()),
            "score_right": float(torch.stack([frame.score_right for frame in frames]).mean()),
        }  # fmt: skip
        if len(frames) > 1 and len(frames[-1].iou):
            figures["iou_last"] = float(frames[-1].iou.mean())
        return loss + auxiliary, figures

    @torch.no_grad()
    def validate(self, phase: Phase) -> Figures:
        if phase.option("fill"):
            return {}
        side_px = int(phase.option("side_px"))
        frame_count = 8 if phase.option("frames_max") else 1
        figures: dict[str, float] = {}
        for level, batches in validation_batches(side_px, frame_count):
            ious = [torch.cat([f.iou for f in self._track(batch)[0]]) for batch in batches]
            figures[f"iou_{level}"] = float(torch.cat(ious).mean())
        return figures

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.half().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    def _fill(self, boxes_xyxy_px: torch.Tensor) -> MaskLoss:
        """The mask is the box, whatever the features are: the decoder learns what a box is before it sees a picture."""
        boxes = boxes_xyxy_px.to(self._device)
        count, cells, width = len(boxes), self.model.sam_image_embedding_size, self.model.hidden_dim
        shapes = [(width, cells), (width // 8, 4 * cells), (width // 4, 2 * cells)]
        coarse, fine, middle = (
            0.3 * torch.randn(count, channels, side, side).to(self._device) for channels, side in shapes
        )
        heads = self._heads_of(coarse, self._points(boxes), [fine, middle])
        at = torch.arange(self.model.image_size, device=self._device) + 0.5
        across = (at > boxes[:, :1]) & (at < boxes[:, 2:3])
        down = (at > boxes[:, 1:2]) & (at < boxes[:, 3:])
        return mask_loss(self._raw_logits.pop(), heads[6], heads[2], down[:, :, None] & across[:, None])

    def _heads_of(self, coarse: torch.Tensor, points: dict[str, torch.Tensor], fine: list[torch.Tensor]) -> Any:
        return self.model._forward_sam_heads(coarse, points, None, fine, False)

    def _track(
        self, drawn: ClipBatch[Any], scale: int = LOSS_SCALE, weight: float = 0
    ) -> tuple[list[MaskLoss], torch.Tensor]:
        """All prompts through all frames as one batch; the loss of each frame, compared at that scale, and the
        auxiliary one, of that weight."""
        batch: ClipBatch[torch.Tensor] = ClipBatch(*(torch.as_tensor(part).to(self._device) for part in drawn))
        frame_count = batch.images.shape[1]
        vision, positions, sizes, auxiliary = self._encode(batch, weight)
        memory: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        losses = []
        for t, at in enumerate(batch.positions.tolist()):
            rows = batch.clips * frame_count + t
            is_prompted = t == 0 or (t == 1 and at > 1)
            points = self._points(batch.boxes_xyxy_px[t]) if is_prompted else None
            seen, places = [f[:, rows] for f in vision], [p[:, rows] for p in positions]
            current, heads, _, _ = self.model._track_step(
                at, is_prompted, seen, places, sizes, points, None, memory, _ENDLESS, False, None
            )
            _, _, ious, _, high_res, pointer, scores = heads
            if t + 1 < frame_count:
                self.model._encode_memory_in_output(seen, sizes, points, True, high_res, scores, current)
                memory["non_cond_frame_outputs" if t else "cond_frame_outputs"][at] = current | {"obj_ptr": pointer}
            truth = batch.labels[batch.clips, t] == batch.things[:, None, None]
            losses.append(mask_loss(self._raw_logits.pop(), scores, ious, truth, scale))
        return losses, auxiliary

    def _encode(
        self, batch: ClipBatch[torch.Tensor], weight: float
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], Any, torch.Tensor]:
        """Image features of all frames as Meta's tracking step takes them, and the auxiliary loss on them, of that
        weight."""
        pixels = (batch.images.flatten(0, 1).float() / 255 - self._mean) / self._std
        encoded = self.model.forward_image(pixels.permute(0, 3, 1, 2))
        frame_count = batch.images.shape[1]
        colors, shapes = (of.repeat_interleave(frame_count, 0) for of in (batch.colors, batch.shapes))
        fine, _, coarse = encoded["backbone_fpn"]
        auxiliary = coarse.new_zeros(())
        if weight:
            auxiliary = weight * self._heads(fine, coarse, batch.labels.flatten(0, 1), colors, shapes)
        _, vision, positions, sizes = self.model._prepare_backbone_features(encoded)
        return vision, positions, sizes, auxiliary

    def _points(self, boxes_xyxy_px: torch.Tensor) -> dict[str, torch.Tensor]:
        count = len(boxes_xyxy_px)
        labels = torch.tensor([BOX_CORNERS], dtype=torch.int32, device=self._device).expand(count, 2)
        return {"point_coords": boxes_xyxy_px.view(count, 2, 2), "point_labels": labels}
