"""Three image styles as three operators: blended, exchanged, removed, and a fourth added later."""

import torch

import rectilinear as rl
from rectilinear.style import StyleObjective, filtered, fit_style, lessons, new_model

torch.manual_seed(0)
images, _ = rl.datasets.load("photos", "train", size=8)
held_out, _ = rl.datasets.load("photos", "test", size=8)
held_out = held_out[::10]


def psnr(x, y):
    """Mean over images, in dB."""
    return rl.metrics.psnr(x, y).mean().item()


styles = ("soft", "negative", "dusk")
model = new_model((3, 8, 8), styles, blocks=8, width=32)
rows, weights = lessons(images, styles, filtered, blends=1)  # the teacher is a filter with sliders
objective = StyleObjective(model, weights, latent=0.02)
objective.prepare(rows)  # every operator starts at its least squares
optimizer = torch.optim.Adam(objective.parameters(), lr=5e-3)
for _ in range(150):
    loss = objective(rows[torch.randint(len(rows), (32,))])["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.requires_grad_(requires_grad=False)
for name in styles:
    print(
        f"{name:9} {psnr(model(held_out, name), filtered(held_out, {name: 1.0})):5.1f} dB, held out"
    )

goal = filtered(held_out, {"soft": 0.5, "dusk": 0.5})  # the teacher's sliders half-way
ends = model(held_out, "soft"), model(held_out, "dusk")
print(f"half-way  {psnr(model.path('soft', 'dusk', 0.5)(held_out), goal):5.1f} dB by operators")
print(f"          {psnr((ends[0] + ends[1]) / 2, goal):5.1f} dB by pixels")

turned = model.between("soft", "dusk")(ends[0])
print(f"exchange  {(turned - ends[1]).abs().max():.1e} from the style of the original")
print(f"removal   {(model.removal('soft')(ends[0]) - held_out).abs().max():.1e} from the original")

more = model.added("rose", fit_style(model, images, filtered(images, {"rose": 1.0}), size=5))
print(
    f"rose      {psnr(more(held_out, 'rose'), filtered(held_out, {'rose': 1.0})):5.1f} dB, added "
    "in closed form"
)
print(f"          {more.shares['rose']:.2%} of the parameters of the networks")
