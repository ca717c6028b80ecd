"""Relativistic velocity addition as a vector space: any bijection induces one."""

import torch

import rectilinear as rl

torch.set_default_dtype(torch.float64)

g = rl.invertible.from_callables(torch.atanh, torch.tanh, shape=(1,))
print(rl.check_invertible(g, torch.linspace(-0.99, 0.99, 100)[:, None]))

space = rl.InducedSpace(g)
u, v = torch.tensor([[0.6]]), torch.tensor([[0.7]])
print("0.6 + 0.7 =", round(space.add(u, v).item(), 4), "and Einstein says", round(1.3 / 1.42, 4))
print("0.6 a hundred times =", space.scale(100.0, u).item(), "and never more than 1")
print("half of 0.6 =", space.scale(0.5, u).item())

doubled = rl.Linearizer(g, rl.operators.Diagonal(torch.tensor([2.0])))
print(
    "twice 0.6, by a linear map:",
    doubled(u).item(),
    "and back:",
    rl.pinv(doubled)(doubled(u)).item(),
)
