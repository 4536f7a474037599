"""The flow core: a straight path between data and noise, and steps along it.

Convention (Flow-GRPO and SD3): x_t = (1 - t) x0 + t eps, velocity v = eps - x0, flow time tau = t runs from 1 (noise)
to 0 (data). Networks here predict x0; the velocity follows as v = (x_t - x0) / t.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "batch tokens channels"]
Times = Float[Tensor, " batch"]
Predict = Callable[[Latents, Times], Latents]  # (x_t, t) -> x0


def like(values: Times, x: Tensor) -> Tensor:
    """A number for each of the batch, over all dims of x."""
    return values.view(-1, *[1] * (x.ndim - 1))


def noised(x0: Latents, eps: Latents, t: Times) -> Latents:
    """x_t on the straight path."""
    return torch.lerp(x0, eps, like(t, x0).to(x0.dtype))


def velocity(x0: Latents, x_t: Latents, t: Times, floor: float = 0.05) -> Latents:
    """The velocity that a prediction of x0 stands for. Times under `floor` count as `floor`: v is singular at 0."""
    return (x_t - x0) / like(t, x_t).to(x_t.dtype).clamp_min(floor)


def velocity_error(x0_hat: Latents, x0: Latents, t: Times, floor: float = 0.05) -> Float[Tensor, " batch"]:
    """Mean over tokens and channels of |v_hat - v|^2, from two values of x0: x_t cancels out."""
    return ((x0_hat - x0).float() / like(t, x0).to(x0.dtype).clamp_min(floor)).square().mean(dim=(1, 2))


def shifted(t: Float[Tensor, "*any"], shift: float) -> Float[Tensor, "*any"]:
    """Moves times toward noise: s t / (1 + (s - 1) t), as in SD3 (arXiv:2403.03206 eq. 23)."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(count: int, shift: float, generator: torch.Generator) -> Times:
    """Training times: logit-normal(0, 1), then shifted."""
    normal = torch.randn(count, generator=generator, device=generator.device)
    return shifted(torch.sigmoid(normal), shift)


def grid(steps: int, shift: float) -> list[float]:
    """steps + 1 falling times from 1 to 0 for a sampler."""
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).tolist()


def guided(conditional: Predict, unconditional: Predict, scale: float) -> Predict:
    """Classifier-free guidance: unconditional + scale (conditional - unconditional). Scale 1 costs one prediction."""
    if scale == 1.0:
        return conditional

    def predict(x: Latents, t: Times) -> Latents:
        return torch.lerp(unconditional(x, t), conditional(x, t), scale)

    return predict


def euler(predict: Predict, noise: Latents, times: list[float]) -> Latents:
    """Deterministic sampling of the flow ODE from t = 1 to t = 0 on the given falling times."""
    x = noise
    for now, after in pairwise(times):
        t = torch.full((len(x),), now, device=x.device, dtype=torch.float32)
        x0 = predict(x, t)
        x = torch.lerp(x0, x, after / now)  # x + v (after - now) with v = (x - x0) / now
    return x
