"""One network audited on digits (not linear) and on digits with their negatives (linear)."""

import torch
from torch import nn

import rectilinear as rl

images, labels = rl.datasets.load("digits", "train")
x, y = images.flatten(1), torch.where(labels < 5, 1.0, -1.0)  # below five against the rest

for name, points, targets in (
    ("digits", x, y),
    ("and mirrored", torch.cat([x, -x]), torch.cat([y, -y])),
):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 100, bias=False), nn.ReLU(), nn.Linear(100, 1, bias=False))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(300):
        loss = (net(points)[:, 0] - targets).square().mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    audit = rl.audit(net, points, targets, loss="square")
    print(f"\n{name}: {audit.verdict}")

    parts = rl.split(net)  # two layers without bias: a linear map and an even function, exactly
    with torch.no_grad():
        print(
            "  f = linear + even to "
            f"{(parts.linear(points) + parts.even(points) - net(points)).abs().max():.0e}"
        )

    linear = rl.linearize(
        net, points, targets, blocks="1", loss="square"
    )  # the ReLU replaced by an affine map
    folded = rl.fuse(linear.model)
    print(
        f"  without the ReLU: accuracy {linear.accuracy_before:.3f} -> {linear.accuracy_after:.3f}"
    )
    left = sum(p.numel() for p in folded.parameters())
    print(f"  and folded: {left} parameters instead of {linear.parameters_before}")
