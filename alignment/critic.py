"""What a state on the way to a clip is worth: a copy of the generator's network whose prediction is one number."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignment.policy import Conditions, Policy
from models import flow
from models.sde import State

Each = Float[Tensor, " batch"]


class Critic(nn.Module):
    """Log-odds from (x_t, t, conditions): the copy's prediction of x0, weighed. What is frozen in `network` is here.

    `shape` is that of one state. At first all log-odds are 0.
    """

    def __init__(self, network: nn.Module, shape: torch.Size) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.weights = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, policy: Policy, x: State, t: flow.Times, conditions: Conditions) -> Each:
        x0_hat = x - t.view(-1, *[1] * (x.ndim - 1)) * policy.velocity(self.network, x, t, conditions)
        weighed = (x0_hat.float() * self.weights).flatten(1)
        return weighed.sum(dim=1) / math.sqrt(weighed.shape[1]) + self.bias
