"""Linear algebra on a nonlinear network: superposition, SVD, pseudo-inverse, square root."""

import torch

import rectilinear as rl

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)

g = rl.invertible.VectorFlow(dim=6, blocks=4, width=32)
for weight in g.parameters():  # the network starts as the identity; bend it
    torch.nn.init.normal_(weight, std=0.3)
f = rl.Linearizer(g, rl.operators.Dense(6, 6))
x1, x2 = torch.randn(2, 5, 6)

print("linear in pixels?   ", torch.allclose(f(x1 + x2), f(x1) + f(x2)))
space = f.in_space
mixed = 2 * space(x1) - 3 * space(x2)
print(
    "linear in its space?",
    torch.allclose(f(mixed.point), (2 * space(f(x1)) - 3 * space(f(x2))).point),
)

u, s, v = rl.svd(f)
left, right = u(torch.eye(6)), v(torch.eye(6))
print("f(v_i) = s_i u_i:   ", torch.allclose(f(right), space.scale(s, left)))

back = rl.pinv(f)
print("f f⁺ f = f:         ", torch.allclose((f @ back @ f)(x1), f(x1)))

gram = f.T @ f
root = gram**0.5
print("√f √f = f:          ", torch.allclose((root @ root)(x1), gram(x1)))
