"""Layers that folding must not take for others, and how far a fused model is from the whole one."""

import torch
from torch import nn
from torch.nn import functional


def ready(model: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with statistics and weights as after training."""
    torch.manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            if part.weight is not None:
                nn.init.uniform_(part.weight, -2, 2)
                nn.init.normal_(part.bias)
    return model.double().eval()


def gap(model: nn.Module, fused: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float(
            (fused(x.clone()) - model(x.clone())).abs().max()
            / model(x.clone()).abs().max().clamp_min(1e-9)
        )


class NormReLU(nn.BatchNorm2d):
    def forward(self, x):
        return functional.relu(super().forward(x))


class NormAct(nn.BatchNorm2d):
    """Of the shape of timm's BatchNormAct2d."""

    def __init__(self, channels, act=nn.ReLU, drop=nn.Identity):
        super().__init__(channels)
        self.drop, self.act = drop(), act(inplace=True)

    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training:
            raise AssertionError
        training = self.running_mean is None and self.running_var is None
        x = functional.batch_norm(
            *(x, self.running_mean, self.running_var, self.weight, self.bias),
            training,
            momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class NormTwice(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + x


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, w, self.bias, self.stride, self.padding)


class Untraced(nn.Module):
    """What torch.fx cannot follow, around a model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        if x.shape[0] == 0:
            return x
        return self.inner(x) if isinstance(x, torch.Tensor) and len(x) else x


class Valued(Untraced):
    """With a path that depends on values."""

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else self.inner[0](x)
