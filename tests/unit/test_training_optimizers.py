"""The optimizers of the Thinkers: Muon as torch's, in the precision that the machine has."""

import copy
from typing import Any

import pytest
import torch

from workers.shapeworld.training import optimizers


def _matrices() -> list[torch.nn.Parameter]:
    torch.manual_seed(3)
    shapes = ((24, 24), (24, 24), (48, 24), (24, 48), (8, 96))
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def _walked(kind: type[torch.optim.Muon], parameters: list[torch.nn.Parameter], **options: Any) -> list[torch.Tensor]:
    """The parameters after a few steps with gradients of their own, the second left out in one step."""
    muon = kind(parameters, lr=0.02, weight_decay=0.1, momentum=0.95, **options)
    draw = torch.Generator().manual_seed(7)
    for step in range(4):
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=draw)
            parameter.grad = None if (step, index) == (2, 1) else gradient
        muon.step()  # type: ignore[no-untyped-call]
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("options", [{"adjust_lr_fn": "match_rms_adamw"}, {"nesterov": False}], ids=str)
def test_muon_goes_as_torchs_own(bfloat16: bool, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "has_bfloat16", lambda _device: bfloat16)
    begun = _matrices()
    mine = _walked(optimizers.Muon, copy.deepcopy(begun), **options)
    reference = _walked(torch.optim.Muon, copy.deepcopy(begun), **options)
    for before, one, other in zip(begun, mine, reference, strict=True):
        way = other - before.detach()
        # torch's own is rounded to bfloat16 in each of five steps that make differences larger.
        assert float((one - other).norm() / way.norm()) < 0.02


def test_products_are_rounded_to_bfloat16_only_where_the_machine_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = torch.randn(4, 4), torch.randn(4, 4)

    def product(has: bool) -> Any:
        monkeypatch.setattr(optimizers, "has_bfloat16", lambda _device: has)
        with optimizers.autocast("cpu"):
            return (left @ right).dtype

    assert product(True) == torch.bfloat16
    assert product(False) == torch.float32
