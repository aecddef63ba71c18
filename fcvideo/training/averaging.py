"""An exponential average of the weights, which is what is saved at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows every parameter of `model` that is being trained. Decay 0 keeps no average: `applied` changes nothing.

    The average starts short and lengthens to 1 / (1 - decay) steps, so that the first weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.num_updates = model, decay, 0
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        if not self.decay:
            return
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        trained = [(self.average[name], p) for name, p in self.model.named_parameters() if p.requires_grad]
        torch._foreach_lerp_([a for a, _ in trained], [p for _, p in trained], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the averaged weights inside, and its own again afterwards."""
        own = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in self.average}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in weights.items():
            parameters[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"num_updates": self.num_updates, "average": self.average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        for name, value in state["average"].items():  # type: ignore[attr-defined]
            self.average[name].copy_(value)
