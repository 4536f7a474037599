"""Checkpoints: safetensors with a JSON card in the file's own header, written whole or not at all."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from palate.errors import CheckpointError
from palate.files import whole_file

Card = dict[str, Any]  # what a checkpoint says of itself: JSON
SHIPPED = Path(__file__).parent / "shipped" / "shapes.safetensors"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], card: Card) -> str:
    """Writes tensors and card; returns the file's SHA-256. The same content gives the same bytes."""
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    content = save(ordered, {"card": json.dumps(card, sort_keys=True)})
    with whole_file(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Card]:
    """Raises CheckpointError for a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {}).get("card", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, card  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}", "give the path of a .safetensors file") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({error})", "copy it again, or train it again"
        ) from error


def file_hash(path: Path) -> str:
    """Raises CheckpointError for a missing file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"no checkpoint at {path}", "give the path of a .safetensors file") from error


def device_of(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises CheckpointError for a device this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError(f"no device {name!r} here", "set device=cpu, or install a CUDA build of torch")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"no device {name!r}", "set device to auto, cpu or cuda") from error
