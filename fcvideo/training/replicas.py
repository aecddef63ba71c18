"""What ranks of one training run say to each other; all of it does nothing in a run of one rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from fcvideo.errors import FcvideoError, TrainingError

Made = TypeVar("Made")


def num_replicas() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def replica_rank() -> int:
    return dist.get_rank() if num_replicas() > 1 else 0


def of_first(make: Callable[[], Made], device: torch.device) -> Made:
    """What `make` gives on the first rank, on every rank; so is the error that it raises there."""
    if num_replicas() == 1:
        return make()
    outcome: list[Any] = [None]
    if replica_rank() == 0:
        try:
            outcome = [make()]
        except FcvideoError as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, src=0, device=device)
    if isinstance(outcome[0], FcvideoError):
        raise outcome[0]
    return cast(Made, outcome[0])


def check_agreement(what: str, value: Any) -> None:
    """Errors: TrainingError, on all ranks, where they do not have the same value."""
    if num_replicas() == 1:
        return
    values = [None] * num_replicas()
    dist.all_gather_object(values, value)
    if any(other != values[0] for other in values):
        raise TrainingError(f"{what}: ranks do not agree ({values}); give --overwrite to start anew")


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


def gather_with_gradients(x: Tensor) -> Tensor:
    """The rows of all ranks, in their order; every rank has as many. Each rank's rows get all ranks' gradients."""
    return x if num_replicas() == 1 else _GatherOverReplicas.apply(x)


class _GatherOverReplicas(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.num_rows = len(x)
        return gather_over_replicas(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        first = replica_rank() * context.num_rows
        return total[first : first + context.num_rows]


def gather_over_replicas(x: Tensor) -> Tensor:
    """The rows of all ranks, in their order, without gradients; every rank has as many."""
    if num_replicas() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(num_replicas())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)
