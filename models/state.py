"""What a run has to keep to go on: trained weights, buffers, averages and optimisers, in one file for all processes.

Frozen weights are not in it: they are those that the run started from. What is sharded is gathered before it is
written, and dealt out again when it is read.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from models.launch import first_process, wait
from palate.errors import CheckpointError
from palate.files import whole_file

Optimisers = list[torch.optim.Optimizer]


def kept_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's state without its frozen weights."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def save(path: Path, identity: str, step: int, model: nn.Module, average: list[Tensor], optimisers: Optimisers) -> None:
    """Written whole or not at all, by the first process. Raises FileError."""
    state = {
        "identity": identity,
        "step": step,
        "model": kept_of(model),
        "average": average,
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    state = _each(state, whole)
    if first_process():
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with whole_file(path) as file:
            file.write(buffer.getbuffer())
    wait()


def resume(path: Path, identity: str, model: nn.Module, average: list[Tensor], optimisers: Optimisers) -> int:
    """The step to go on from: 0 where there is no state yet. Raises CheckpointError for a damaged or a foreign one."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged ({error})", "delete it to start afresh") from error
    if state["identity"] != identity:
        raise CheckpointError(f"{path} is the state of another run", "give a new folder, or delete it to start afresh")
    with torch.no_grad():
        for name, value in kept_of(model).items():
            value.copy_(_like(state["model"][name], value))
        for kept, saved in zip(average, state["average"], strict=True):
            kept.copy_(_like(saved, kept))
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        for place, values in saved["state"].items():
            saved["state"][place] = {
                name: _like(value, trained[place])
                if isinstance(value, Tensor) and value.shape == trained[place].shape
                else value
                for name, value in values.items()
            }
        optimiser.load_state_dict(saved)
    return int(state["step"])


def whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _like(value: Tensor, other: Tensor) -> Tensor:
    return distribute_tensor(value, other.device_mesh, other.placements) if isinstance(other, DTensor) else value


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _each(one, change) for name, one in value.items()}
    return [_each(one, change) for one in value] if isinstance(value, list | tuple) else value
