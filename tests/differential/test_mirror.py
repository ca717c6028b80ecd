"""Every test of mirror symmetry agrees with the others and with a search over all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import rectilinear as rl
from makers_data import rand
from rectilinear.learning import asymmetric_fraction
from rectilinear.learning.mirror import mirror_half


def units(x: Tensor, how: str) -> Tensor:
    if how == "one column large":
        return x * torch.tensor([1e8] + [1.0] * (x.shape[1] - 1), dtype=x.dtype)
    if how == "an outlier":
        return torch.cat([x, 1e7 * x[:1], -1e7 * x[:1]])
    if how == "rounded":
        return x * (1 + 1e-13 * rand(*x.shape, seed=5))
    return x * float(how)


def by_search(x: Tensor) -> tuple[float, float]:
    """The share of rows whose image is there, and the share left when pairs are taken away one by
    one.
    """
    near = 1e-9 * x.abs().amax(0).clamp_min(1e-300)
    same = ((x[:, None] + x[None]).abs() <= near).all(2)
    left = list(range(len(x)))
    alone = 0
    while left:
        i = left.pop(0)
        partner = next((j for j in left if same[i, j]), None)
        if partner is not None:
            left.remove(partner)
        elif not same[i, i]:
            alone += 1
    return float(same.any(1).double().mean()), alone / len(x)


@pytest.mark.parametrize(
    "how", ["1", "1e-200", "1e140", "one column large", "an outlier", "rounded"]
)
@pytest.mark.parametrize("missing", [0, 3])
@pytest.mark.parametrize("more", [0, 4])
def test_all_measures_of_symmetry_agree(how, missing, more):
    half = rand(25, 4)
    x = units(
        torch.cat([half, -half[missing:], half[5 : 5 + more], torch.zeros(2, 4).double()]), how
    )
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
    share, alone = by_search(x)
    assert asymmetric_fraction(x) == pytest.approx(alone, abs=1e-12)
    if how != "1e-200":  # an audit refuses numbers whose squares vanish
        found = rl.audit(nn.Linear(4, 1).double(), x, progress=False)
        pairs = found.measures["pairs"]
        assert pairs.value == pytest.approx(share, abs=1e-12)
        assert pairs.details["share_paired_off"] == pytest.approx(1 - alone, abs=1e-12)
        closed = any("closed under the mirror image" in reason for reason in found.verdict.reasons)
        assert closed == (missing == more == 0)
    if missing == more == 0:
        chosen = x[mirror_half(x)]
        assert len(chosen) == (len(x) - 2) // 2
        assert asymmetric_fraction(torch.cat([chosen, -chosen])) == 0
        assert asymmetric_fraction(chosen) == 1


def test_labels_count_as_columns_do():
    x = rand(40, 3)
    y = x[:, :1] ** 3
    both, odd, even = torch.cat([x, -x]), torch.cat([y, -y]), torch.cat([y, y])
    for labels in (odd, even, torch.cat([y, -y * (1 + 1e-4)])):
        pairs = rl.audit(nn.Linear(3, 1).double(), both, labels, progress=False).measures["pairs"]
        assert pairs.value == pytest.approx(1 - asymmetric_fraction(both, labels), abs=1e-12)


@pytest.mark.parametrize("dimensions", [3, 200])
def test_the_mirror_image_is_said_to_be_among_the_data_where_it_is(dimensions):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(dimensions, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    x = rand(600, dimensions)
    for points, among in (
        (x, True),
        (x + 0.7, False),
        (x.exp(), False),
        (torch.cat([x + 1, -x - 1]), True),
    ):
        found = rl.audit(net, points, progress=False).measures
        assert ("-x lies among the data" in found["parity"].note) == among, found["parity"].note
