"""Image styles as operators of one network: any strength, exchanged, removed, one added later."""

import torch

from rectilinear.style import StyleObjective, filtered, fit_style, new_model, with_ways_back
from rectilinear.style.measure import above_flat, score
from rectilinear.style.photos import paint, read_photos
from rectilinear.style.style_map import as_eight_bit

torch.manual_seed(0)
photos = read_photos("photos", "train", side=64)  # parts of two photographs, the rest is held out
held_out = paint(
    read_photos("photos", "test", side=64), ("negative", "dusk", "rose"), filtered, progress=False
)

styles = ("negative", "dusk")
lessons = paint(photos, styles, filtered, progress=False)  # the teacher is a filter with sliders
model = new_model(styles, couplings=4, width=16, basis="pixels")
objective = StyleObjective(model, lessons, tile=32)
objective.prepare(lessons.rows())  # every operator starts at its least squares
optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
for _ in range(100):
    loss = objective(lessons.rows()[torch.randint(len(photos), (8,))])["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.requires_grad_(requires_grad=False)
model = with_ways_back(model, photos)
x = held_out.photos[0].float() / 255
for name in styles:
    pairs = list(zip(held_out.photos, held_out.paintings[name], strict=True))
    print(f"{name:9} {above_flat(model.style(name), pairs):5.1f} dB above a flat colour, held out")

half = model.path("identity", "dusk", 0.5)  # half the strength
print(
    f"strength  {score(model.path('identity', 'dusk', 0.0)(x), x):5.0f} dB at 0, the photo itself"
)
print(f"          {score(half(x), model(x, 'dusk')):5.1f} dB from the style at a half")

saved = as_eight_bit(model(x, "negative"))  # as it comes out of a file
turned = model.between("negative", "dusk")
print(f"exchange  {score(turned(saved), model(x, 'dusk')):5.1f} dB, {turned.which(saved)} way back")
print(f"removal   {score(model.removal('negative')(saved), x):5.1f} dB to the photo")

more = model.added(
    "rose", fit_style(model, photos, [filtered(p[None] / 255, {"rose": 1.0})[0] for p in photos])
)
pairs = list(zip(held_out.photos, held_out.paintings["rose"], strict=True))
print(f"rose      {above_flat(more.style('rose'), pairs):5.1f} dB, added in closed form")
print(f"          {more.shares['rose']:.1%} of the parameters of the network")
