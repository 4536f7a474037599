"""Low-rank adapters (LoRA, arXiv:2106.09685), by peft: what is trained of a network too large to be trained whole."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import Field
from torch import Tensor, nn

from models.state import whole
from palate.config import Settings
from palate.errors import ConfigError

NAME = "default"


class LoraSettings(Settings):
    """`targets` are ends of names of linear layers; by default those of attention, at flow_grpo's rank.

    Flux 2's single blocks, 48 of its 56, have theirs in one: `to_qkv_mlp_proj`.
    """

    rank: int = Field(default=32, ge=1)
    alpha: float = Field(default=64.0, gt=0)
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "to_qkv_mlp_proj")


def adapt(network: nn.Module, settings: LoraSettings) -> None:
    """Freezes the network and adds adapters to it, in place: float32, and at first without effect.

    Raises ConfigError where no layer has such a name.
    """
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not any(name.endswith(settings.targets) for name in names):
        raise ConfigError(
            f"lora.targets: no linear layer of {type(network).__name__} is called {', '.join(settings.targets)}",
            f"name ends of such as {', '.join(sorted({name.split('.')[-1] for name in names})[:8])}",
        )
    network.requires_grad_(False)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.targets))  # type: ignore[arg-type]
    inject_adapter_in_model(config, network, NAME)
    for p in network.parameters():
        if p.requires_grad:
            p.data = p.data.float()


@contextmanager
def idle_ones_off(network: nn.Module) -> Iterator[None]:
    """Where every adapter is without effect, as all are before they learn, the network is evaluated without them."""
    layers = [part for part in network.modules() if isinstance(part, LoraLayer)]
    ends = [layer.lora_B[NAME].get_parameter("weight") for layer in layers]
    idle = bool(ends) and not torch.stack([end.detach().norm() for end in ends]).any()
    try:
        for layer in layers if idle else ():
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers if idle else ():
            layer.enable_adapters(True)


def adapters_of(network: nn.Module) -> dict[str, Tensor]:
    """The adapters under the names by which diffusers' `load_lora_weights` and `load_lora_adapter` read them.

    Their scale, alpha / rank, is multiplied into the second matrix, since readers take it as 1 where nothing is said.
    """
    found: dict[str, Tensor] = {}
    for name, part in network.named_modules():
        if isinstance(part, LoraLayer):
            found[f"transformer.{name}.lora_A.weight"] = whole(part.lora_A[NAME].get_parameter("weight"))
            found[f"transformer.{name}.lora_B.weight"] = (
                whole(part.lora_B[NAME].get_parameter("weight")) * part.scaling[NAME]
            )
    return found
