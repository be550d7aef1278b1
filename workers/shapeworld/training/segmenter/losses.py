"""Losses of the segmenter: masks, object score and predicted IoU of the prompted things, and an auxiliary one of
everything in the picture."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from workers.shapeworld.world.shapes import COLORS, SHAPES

_FOCAL, _SCORE, _IOU = 20.0, 0.5, 0.3
_AUXILIARY = 0.5
#: Resolution at which masks are compared, in that of the logits.
LOSS_SCALE = 2


@dataclass(frozen=True, slots=True)
class MaskLoss:
    """`loss` of N masks; `iou` of those that have a true mask, `score_right` share of the object scores."""

    loss: torch.Tensor
    iou: torch.Tensor
    score_right: torch.Tensor


def mask_loss(
    logits: torch.Tensor, scores: torch.Tensor, predicted_iou: torch.Tensor, truth: torch.Tensor,
    scale: int = LOSS_SCALE,
) -> MaskLoss:  # fmt: skip
    """Loss of one frame. `logits` (N, 1, h, w), `scores` (N, 1), `predicted_iou` (N, 1), `truth` (N, H, W) bool.

    Truth and logits meet at `scale` times the logits' resolution, the truth as the share of each cell that is covered:
    what bilinear interpolation makes of the logits is what will be seen. A frame without the thing teaches the score
    alone.
    """
    side = scale * logits.shape[-1]
    wanted = F.interpolate(truth[:, None].float(), (side, side), mode="area")
    seen = truth.flatten(1).any(1).float()
    upscaled = F.interpolate(logits.float(), (side, side), mode="bilinear", align_corners=False).clamp(-30, 30)
    entropy = F.binary_cross_entropy_with_logits(upscaled, wanted, reduction="none")
    share = upscaled.sigmoid()
    focal = (entropy * (share - wanted).square()).mean((1, 2, 3))
    overlap, areas = (share * wanted).sum((1, 2, 3)), share.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    dice = 1 - (2 * overlap + 1) / (areas + 1)
    mask = ((_FOCAL * focal + entropy.mean((1, 2, 3)) + dice) * seen).mean()
    score = F.binary_cross_entropy_with_logits(scores.float()[:, 0], seen)
    with torch.no_grad():
        ours, theirs = (upscaled > 0).flatten(1), (wanted > 0.5).flatten(1)
        iou = (ours & theirs).sum(1) / (ours | theirs).sum(1).clamp(min=1)
        right = ((scores[:, 0] > 0) == (seen > 0)).float().mean()
    quality = ((predicted_iou.float()[:, 0] - iou).square() * seen).mean()
    return MaskLoss(mask + _SCORE * score + _IOU * quality, iou[seen > 0], right)


class DenseHeads(nn.Module):
    """Auxiliary heads on the image features: colours on the finest, and on the coarsest colour, shape and the way to
    the thing's centre for each of the 4 × 4 fine cells of a coarse one. They aren't part of the checkpoint."""

    def __init__(self, fine_channels: int, coarse_channels: int) -> None:
        super().__init__()
        self._classes = (len(COLORS) + 1, len(SHAPES) + 1)
        self.fine = nn.Conv2d(fine_channels, self._classes[0], 1)
        self.coarse = nn.Conv2d(coarse_channels, 16 * (sum(self._classes) + 2), 1)

    def forward(
        self, fine: torch.Tensor, coarse: torch.Tensor, labels: torch.Tensor, colors: torch.Tensor, shapes: torch.Tensor
    ) -> torch.Tensor:
        """`fine` (P, C, 4h, 4w), `coarse` (P, D, h, w), `labels` (P, H, W), `colors` and `shapes` (P, labels)."""
        stride = labels.shape[-1] // fine.shape[-1]
        cells = labels[:, stride // 2 :: stride, stride // 2 :: stride].long()
        color, shape = (of.gather(1, cells.flatten(1)).view_as(cells) for of in (colors, shapes))
        found = F.pixel_shuffle(self.coarse(coarse), 4).float()
        of_color, of_shape, toward = torch.split(found, [*self._classes, 2], 1)
        loss = F.cross_entropy(self.fine(fine).float(), color) + F.cross_entropy(of_color, color)
        loss = loss + F.cross_entropy(of_shape, shape)
        there = (cells > 0)[:, None]
        distance = F.smooth_l1_loss(toward, _toward_centers(cells, colors.shape[1]), reduction="none", beta=0.2)
        loss = loss + (distance * there).sum() / (2 * there.sum().clamp(min=1))
        return _AUXILIARY * loss


def _toward_centers(cells: torch.Tensor, label_count: int) -> torch.Tensor:
    """(P, 2, h, w): from each cell to the middle of its label's cells, x and y, in units of ten cells."""
    height, width = cells.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=cells.device), torch.arange(width, device=cells.device), indexing="ij"
    )
    places = torch.stack([x, y]).flatten(1).float().expand(len(cells), 2, -1)
    index = cells.flatten(1)[:, None]
    sums = places.new_zeros(len(cells), 3, label_count).scatter_add_(
        2, index.expand(-1, 3, -1), torch.cat([places, torch.ones_like(places[:, :1])], 1)
    )
    centers = sums[:, :2] / sums[:, 2:].clamp(min=1)
    return ((centers.gather(2, index.expand(-1, 2, -1)) - places) / 10).view(len(cells), 2, height, width)
