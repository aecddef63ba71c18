"""What a code is asked to tell by a linear layer, which begins at what the code holds already and is trained along."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fcvideo.training.landmarks import NUM_LANDMARKS, describe

# How much of the loss each kind of number counts that `describe` gives: where a face is and turns to, its eyes, lips.
SHARES = (0.25, 0.25, 0.125, 0.125, 0.25)
RIDGE = 0.01  # relative to the variance of a code's numbers


class ToldLandmarks(nn.Module):
    """Tells landmarks from codes by a linear layer; they count at mean 0 and variance 1, once `fit` is called.

    The anchors' numbers have a variance each; those of eyes and lips one together, so that what moves most counts most.
    """

    mean: Tensor
    deviation: Tensor
    share: Tensor

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.sizes = [numbers.shape[1] for numbers in describe(torch.zeros(1, NUM_LANDMARKS, 2))]
        num = sum(self.sizes)
        self.register_buffer("mean", torch.zeros(num))
        self.register_buffer("deviation", torch.ones(num))
        each = [torch.full((size,), share / size) for size, share in zip(self.sizes, SHARES, strict=True)]
        self.register_buffer("share", torch.cat(each), persistent=False)
        self.tell = nn.Linear(code_dim, num)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    @torch.no_grad()
    def fit(self, codes: Tensor, landmarks: Tensor) -> None:
        """Takes mean and variance from landmarks (N, K, 2), and tells what codes (N, D) hold already; not of NaN."""
        told = torch.cat(describe(landmarks), dim=1)
        is_found = told.isfinite().all(dim=1)
        if is_found.sum() > 1:
            told = told[is_found]
            mean, kinds = told.mean(dim=0), told.var(dim=0).split(self.sizes)
            kinds = [*kinds[:2], *(kind.mean().expand_as(kind) for kind in kinds[2:])]
            deviation = torch.cat(kinds).sqrt().clamp_min(1e-3)
            self.mean.copy_(mean)
            self.deviation.copy_(deviation)
            fit_linear(self.tell, codes[is_found], (told - mean) / deviation)

    def forward(self, codes: Tensor, landmarks: Tensor) -> Tensor:
        """The share () of the landmarks' (B, K, 2) variance that codes (B, D) do not tell; none of rows of NaN."""
        with torch.autocast(codes.device.type, enabled=False):
            wanted = (torch.cat(describe(landmarks.float()), dim=1) - self.mean) / self.deviation
            is_found = wanted.isfinite().all(dim=1)
            told = self.tell(codes.float())
            error = told - torch.where(is_found[:, None], wanted, told.detach())
            return (error.square() @ self.share).mean()


@torch.no_grad()
def fit_linear(layer: nn.Linear, codes: Tensor, targets: Tensor) -> None:
    """Sets a layer to the ridge regression of targets (N, K) on codes (N, D).

    Trained from zero it would take thousands of steps to get there, and pull the encoder about on its way.
    """
    weight, bias = ridge(codes.double(), targets.double(), RIDGE)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def ridge(x: Tensor, y: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and bias (K,) that give y (N, K) of x (N, D), float64; `strength` is of x's mean variance."""
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    gram += strength * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ y).T
    return weight, mean_y - weight @ mean_x
