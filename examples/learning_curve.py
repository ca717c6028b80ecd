"""A learning curve predicted before training, and measured: digits and their negatives."""

import torch
from torch import nn

import rectilinear as rl
from rectilinear.errors import AssumptionError

images, labels = rl.datasets.load("digits", "train")
x, y = images.flatten(1) - images.flatten(1).mean(0), torch.where(labels < 5, 1.0, -1.0)
both = torch.cat([x, -x]), torch.cat([y, -y])

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 100, bias=False), nn.ReLU(), nn.Linear(100, 1, bias=False))
with torch.no_grad():
    for weight in net.parameters():
        weight *= 0.1

try:
    rl.predict(net, x, y, lr=0.1, steps=300)
except AssumptionError as error:
    print(f"digits as they are, {error.assumption} fails: {error.got}")

prediction = rl.predict(net, *both, lr=0.1, steps=300)
print(f"\nwith their mirror images:\n{prediction}\n")

descent = torch.optim.SGD(net.parameters(), lr=0.1)
measured = []
for _ in range(301):
    loss = (net(both[0])[:, 0] - both[1]).square().mean() / 2
    measured.append(loss.item())
    descent.zero_grad()
    loss.backward()
    descent.step()

print("step   predicted   measured")
for step in (0, 30, 100, 300):
    print(f"{step:4}   {prediction.loss[step]:9.5f}   {measured[step]:8.5f}")
gap = (prediction.loss - torch.tensor(measured)).abs().max() / (measured[0] - measured[-1])
print(f"largest difference: {100 * gap:.1f} % of the fall")
