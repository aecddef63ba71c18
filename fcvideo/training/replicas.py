"""What ranks of one training run say to each other; all of it does nothing in a run of one rank."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_replicas() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_replicas(x: Tensor) -> Tensor:
    """The mean over all ranks, with gradients to each; DistributedDataParallel's averaging makes them whole."""
    return x if num_replicas() == 1 else _SumOverReplicas.apply(x) / num_replicas()


class _SumOverReplicas(torch.autograd.Function):
    """A sum whose gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def average_numbers(numbers: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each number's mean over all ranks, which must call with the same names."""
    if num_replicas() == 1:
        return numbers
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(numbers, (values / num_replicas()).tolist(), strict=True))


def gather_over_replicas(x: Tensor) -> Tensor:
    """The rows of all ranks, in their order, without gradients; every rank has as many."""
    if num_replicas() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(num_replicas())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)
