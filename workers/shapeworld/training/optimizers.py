"""The optimizers of both Thinkers, and the precision they are trained in: the fastest that the machine has."""

from collections import defaultdict
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.optim._muon import _adjust_lr


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 itself. A CPU that doesn't goes through float32 and back for every
    product, and takes several times as long as with float32 alone (`benchmarks.training_precision`)."""
    if device != "cpu":
        return True
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: str) -> AbstractContextManager[Any]:
    """bfloat16 where the device has it, else float32 as it is.

    torch's cache of converted weights is one for all threads: lanes would share each other's, or not, as chance has
    it, and add a weight's gradients up now in bfloat16, now in float32. Without it, always in float32, for some 5 % of
    a step (`benchmarks.training_precision`).
    """
    return torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device), cache_enabled=False)


class Muon(torch.optim.Muon):
    """torch's Muon, but matrices of one shape are orthogonalized together, and on a CPU without bfloat16 in float32.

    torch takes them one by one and always in bfloat16, which there is a third of a step of these small models
    (`benchmarks.training_precision`).
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters, gradients, momenta = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
            self._init_group(group, parameters, gradients, momenta)
            alike = defaultdict[torch.Size, list[int]](list)
            for index, parameter in enumerate(parameters):
                momenta[index].lerp_(gradients[index], 1 - group["momentum"])
                alike[parameter.shape].append(index)
            ahead = group["momentum"] if group["nesterov"] else 1.0
            for shape, indices in alike.items():
                updates = torch.stack([gradients[i].lerp(momenta[i], ahead) for i in indices])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape)
                for index, update in zip(indices, _orthogonal(updates, group), strict=True):
                    parameters[index].mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def _orthogonal(matrices: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """(N, rows, columns), each near the orthogonal matrix nearest to it: Newton-Schulz steps with Muon's coefficients
    (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""
    a, b, c = group["ns_coefficients"]
    near = matrices.bfloat16() if has_bfloat16(matrices.device.type) else matrices
    upright = near.shape[1] > near.shape[2]
    near = near.mT if upright else near
    near = near / torch.linalg.matrix_norm(near, keepdim=True).clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = near @ near.mT
        near = torch.baddbmm(near, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), near, beta=a)
    return near.mT if upright else near


def make_optimizers(
    thinker: Any, others: torch.nn.Module, *, muon_scale: float = 1.0, weight_decay: float = 0.02
) -> list[torch.optim.Optimizer]:
    """Muon for the Thinker's matrices, at `muon_scale` times the rate; AdamW for its embeddings, biases, norms, and
    `others`.

    Parameters that need no gradient are left out.
    """
    named = [(name, p) for name, p in thinker.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    taken = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in taken] + [p for p in others.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay, "scale": 1.0},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "scale": 1.0},
    ]
    adam = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)
    muon = Muon(
        [{"params": matrices, "scale": muon_scale}],
        lr=1e-3, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    return [adam, muon]
