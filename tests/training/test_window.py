import pytest
import torch

from rectilinear.errors import ConfigError, DivergedError
from rectilinear.training.batches import loss_of
from rectilinear.training.distributed import Group
from rectilinear.training.loop import Window

ALONE = Group(torch.device("cpu"))


def test_it_gives_the_means_of_scalars_and_starts_anew():
    window = Window()
    for value in (1.0, 2.0, 6.0):
        window.add(
            {"loss": torch.tensor(value), "rows": torch.ones(4), "name": "x"},
            torch.tensor(value**2),
        )
    assert len(window) == 3
    assert window.means(ALONE, 3, "") == {"loss": 3.0, "gradient_norm": pytest.approx(41 / 3)}
    assert len(window) == 0


def test_float64_stays_float64():
    window = Window()
    window.add({"loss": torch.tensor(0.1, dtype=torch.float64)}, torch.tensor(0.0))
    assert window.means(ALONE, 1, "")["loss"] == 0.1


@pytest.mark.parametrize(
    ("losses", "norms", "named"),
    [
        ([1, "nan", 1], [1, 1, "inf"], "loss.*step 18"),
        ([1, 1, "inf"], [1, "nan", 1], "gradient.*step 18"),
    ],
)
def test_the_first_step_that_is_not_finite_is_named(losses, norms, named):
    window = Window()
    for loss, norm in zip(losses, norms, strict=True):
        window.add({"loss": torch.tensor(float(loss))}, torch.tensor(float(norm)))
    with pytest.raises(DivergedError, match=named + ".*Do this"):
        window.means(ALONE, 20, "Do this.")


@pytest.mark.parametrize(
    "terms", [{}, {"loss": 1.0}, {"loss": torch.ones(2)}, torch.tensor(1.0), None]
)
def test_an_objective_without_a_scalar_loss_is_refused(terms):
    with pytest.raises(ConfigError, match="loss"):
        loss_of(terms)
