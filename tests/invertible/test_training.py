"""Round trips after training in float32, on data and on latents from an operator."""

import pytest
import torch
from sklearn.datasets import load_digits

from rectilinear.invertible import Chain, Flatten, ImageFlow, Rotation, VectorFlow, check_invertible

DIGITS = torch.tensor(load_digits().images[:512], dtype=torch.float32)[:, None] / 16


def pca_vector() -> Chain:
    flat = DIGITS.flatten(1)
    q = torch.linalg.svd(flat - flat.mean(0)).Vh.T
    return Chain(
        Flatten((1, 8, 8)),
        Rotation.from_matrix(q, flat.mean(0), reflections=4),
        VectorFlow(64, 6, 64),
    )


NETWORKS = {
    "vector": pca_vector,
    "conv": lambda: ImageFlow((1, 8, 8), blocks=6, width=16, actnorm=True),
    "vit": lambda: ImageFlow(
        (1, 8, 8), blocks=4, width=32, conditioner="vit", patch=2, hidden=1, coupling="additive"
    ),
}


@pytest.mark.whole
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "vit" else k for k in NETWORKS]
)
def test_round_trip_after_training(kind: str) -> None:
    torch.manual_seed(0)
    g = NETWORKS[kind]()
    log_std = torch.nn.Parameter(torch.full((64,), -1.0))
    optimizer = torch.optim.Adam([*g.parameters(), log_std], lr=2e-3)
    losses = []
    for _ in range(40):
        x = DIGITS[torch.randint(len(DIGITS), (64,))]
        z, logdet = g.forward_and_logdet(x + 0.1 * torch.randn_like(x))
        loss = ((0.5 * (z / log_std.exp()).square() + log_std).sum(1) - logdet).mean() / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    with torch.no_grad():
        z = g(DIGITS)
        # A rank-8 map, a contraction and a rotation: on the subspace, inside, and beside the data's
        # latents.
        u = torch.linalg.qr(torch.randn(64, 8)).Q
        turn = torch.linalg.qr(torch.randn(64, 64)).Q
        produced = torch.cat([z @ u @ u.T, 0.5 * z, z @ turn])
    report = check_invertible(g, DIGITS, produced, tol=1e-4)  # the mark of the project
    report.raise_if_bad()
