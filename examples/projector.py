"""A network that is a projector by construction: restoration, anomaly scores, new digits."""

import torch

import rectilinear as rl
from rectilinear.projector import (
    ProjectorObjective,
    RandomCorruption,
    corrupt,
    from_pca,
    restore,
)


def psnr(x: torch.Tensor) -> float:
    """PSNR of all images as one."""
    return float(rl.metrics.psnr(x[None], held_out[None]))


torch.manual_seed(0)
images, _ = rl.datasets.load("digits", "train")
held_out, _ = rl.datasets.load("digits", "test")

# equal to the projector of PCA until it is trained
f, errors = from_pca(images, rank=16, blocks=4, width=64)
pca, _ = from_pca(images, rank=16, blocks=1, width=2)
noise = torch.randn_like(held_out)
print(f"untrained: |f(f(x)) - f(x)| on noise {(f(f(noise)) - f(noise)).abs().max():.0e}")

objective = ProjectorObjective(
    f, errors, corruption=RandomCorruption(("noise", "missing", "occlusion", "blur"))
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
        y, measurement = corrupt(held_out, kind, severity, torch.Generator().manual_seed(0))
        line = f"{psnr(y):5.1f} dB, PCA {psnr(pca(y)):.1f}, projector {psnr(f(y)):.1f}"
        if measurement is not None:
            line += f", with the measurement {psnr(restore(f, y, measurement)):.1f}"
        print(f"{kind:9} {severity:<5} {line}")

    f = f.fitted(images, noise=0.05)  # a Gaussian on the range
    normal, anomalous = f.scores(held_out), f.scores(rl.datasets.letters(8).images)
    for score, values in normal.items():
        area = rl.metrics.roc(values, anomalous[score]).area
        print(f"letters against digits by {score}: AUROC {area:.3f}")
    drawn = f.sample(100)
    print(f"samples lie on the range: {(f(drawn) - drawn).abs().max():.0e}")

complement = rl.project_null(f.linearizer)  # 1 - f in the space of g, a projector too
space = f.linearizer.in_space
error = (space.add(f(held_out), complement(held_out)) - held_out).abs().max()
print(f"x = f(x) (+) (1 - f)(x): {error:.0e}")
