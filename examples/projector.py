"""A network that is a projector by construction: restoration, anomaly scores, new digits."""

import torch

import rectilinear as rl
from rectilinear.projector import (
    ProjectorObjective,
    RandomDamage,
    damage,
    decibels,
    from_pca,
    restore,
)

torch.manual_seed(0)
images, _ = rl.datasets.load("digits", "train")
held_out, _ = rl.datasets.load("digits", "test")

f, lost = from_pca(
    images, rank=16, blocks=4, width=64
)  # equal to PCA's projector until it is trained
pca, _ = from_pca(images, rank=16, blocks=1, width=2)
noise = torch.randn_like(held_out)
print(f"untrained: |f(f(x)) - f(x)| on noise {(f(f(noise)) - f(noise)).abs().max():.0e}")

objective = ProjectorObjective(
    f, lost, harm=RandomDamage(("noise", "missing", "occlusion", "blur"))
)
optimizer = torch.optim.Adam(f.parameters(), lr=2e-3)
for step in range(300):
    loss = objective(images[torch.randint(len(images), (128,))])["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:4}  loss {loss.item():.3f}")

with torch.no_grad():
    print(f"trained:   |f(f(x)) - f(x)| on noise {(f(f(noise)) - f(noise)).abs().max():.0e}")
    for kind, severity in (("noise", 0.25), ("missing", 0.5), ("occlusion", 0.375), ("blur", 0.1)):
        seen, known = damage(held_out, kind, severity, torch.Generator().manual_seed(0))
        known_too = (
            ""
            if known is None
            else f", known corruption {decibels(restore(f, seen, known), held_out):.1f}"
        )
        linear, bent = decibels(pca(seen), held_out), decibels(f(seen), held_out)
        print(
            f"{kind:9} {severity:<5} {decibels(seen, held_out):5.1f} dB, PCA {linear:.1f}, "
            f"projector {bent:.1f}{known_too}"
        )

    f = f.fitted(images, noise=0.05)  # a Gaussian on the range
    normal, anomalous = f.scores(held_out), f.scores(rl.datasets.letters(8).images)
    for score, values in normal.items():
        print(
            f"letters against digits by {score}: area "
            f"{rl.metrics.roc(values, anomalous[score]).area:.3f}"
        )
    drawn = f.sample(100)
    print(f"samples lie on the range: {(f(drawn) - drawn).abs().max():.0e}")

away = rl.project_null(f.linearizer)  # what f removes: a projector, too
space = f.linearizer.in_space
print(
    "x = f(x) (+) (1 - f)(x): "
    f"{(space.add(f(held_out), away(held_out)) - held_out).abs().max():.0e}"
)
