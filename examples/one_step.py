"""A one-step generator of digits, trained for seconds: a hundred steps as one operator."""

import torch

import rectilinear as rl

torch.manual_seed(0)
images, _ = rl.datasets.load("digits", "train")
held_out, _ = rl.datasets.load("digits", "test")
n, noise = 64, 0.15  # of the data, against overfitting

mean, axes, _ = rl.metrics.pca(images)
g = rl.invertible.Chain(
    rl.invertible.Flatten((1, 8, 8)),
    rl.invertible.Rotation.from_matrix(axes.float(), mean.float()),
    rl.invertible.VectorFlow(n, blocks=6, width=64),
)
velocity = rl.flow.SolvedVelocity(torch.ones(n), torch.ones(n))
generator = rl.flow.LinearFlow(g, rl.invertible.Flatten((1, 8, 8)), velocity)

objective = rl.flow.objectives.likelihood(generator, noise)
objective.prepare(images)
optimizer = torch.optim.Adam(objective.parameters(), lr=2e-3)
for step in range(200):
    loss = objective(images[torch.randint(len(images), (128,))])["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:4}  loss {loss.item():.3f}")

with torch.no_grad():
    f = rl.flow.collapse(generator, steps=100, method="rk4")
    x0 = torch.randn(16, 1, 8, 8)
    difference = (f(x0) - rl.flow.sample(generator, x0, steps=100, method="rk4")).abs().max()
    print(f"one step against a hundred: {difference:.1e} of a pixel")

    noisy = held_out + noise * torch.randn_like(held_out)
    back = rl.flow.inversion(f, noisy)
    print(f"image, noise, image:        {back.error:.1e}; the noise: {back.normality}")

    u, s, v = rl.svd(f)
    print(f"singular values:            {s[0]:.2f} ... {s[-1]:.2f}")
