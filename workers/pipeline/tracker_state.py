"""What the tracker remembers on its way, as bytes: who loads them goes on exactly as who saved them would have.

The form is that of safetensors: a number a name, no code. Tensors come back at the addresses and with the strides of
new ones, for kernels choose their way by both.
"""

from collections.abc import Sequence

import torch
from safetensors.torch import load, save

from workers.pipeline.sweeps import Group, Memory


def saved(groups: Sequence[Group]) -> bytes:
    """The memories of groups, in their order."""
    tensors: dict[str, torch.Tensor] = {}
    for number, group in enumerate(groups):
        for name, by_frame in _parts(group):
            for frame_index, memory in by_frame.items():
                for key, tensor in memory.items():
                    tensors[f"{number}/{name}/{frame_index}/{key}"] = tensor
        for level, positions in enumerate(group.positions or ()):
            tensors[f"{number}/positions/{level}/"] = positions
    # What is shared between memories is written for each of them.
    return save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})


def restore(groups: Sequence[Group], state: bytes, device: torch.device) -> None:
    """Give the groups, the same and in the same order as when it was saved, their memories back."""
    found: list[dict[str, dict[int, Memory]]] = [{"conditioning": {}, "memory": {}, "ahead": {}} for _ in groups]
    positions: list[dict[int, torch.Tensor]] = [{} for _ in groups]
    for place, tensor in load(state).items():
        number, name, frame_index, key = place.split("/")
        fresh = tensor.to(device).clone()
        if name == "positions":
            positions[int(number)][int(frame_index)] = fresh
        else:
            found[int(number)][name].setdefault(int(frame_index), {})[key] = fresh
    for group, parts, levels in zip(groups, found, positions, strict=True):
        group.positions = [levels[level] for level in sorted(levels)] or None
        group.conditioning = parts["conditioning"].get(group.frame_index)
        # The order is that in which the frames were seen.
        group.memory, group.ahead = (_in_order(group, parts[name]) for name in ("memory", "ahead"))


def _parts(group: Group) -> list[tuple[str, dict[int, Memory]]]:
    conditioning = {} if group.conditioning is None else {group.frame_index: group.conditioning}
    # On the way back, what lay ahead has become the memory.
    ahead = {} if group.ahead is group.memory else group.ahead
    return [("conditioning", conditioning), ("memory", group.memory), ("ahead", ahead)]


def _in_order(group: Group, memories: dict[int, Memory]) -> dict[int, Memory]:
    return dict(sorted(memories.items(), key=lambda item: abs(item[0] - group.frame_index)))
