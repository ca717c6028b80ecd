import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from rectilinear.errors import NonFiniteError, ShapeError
from rectilinear.metrics import roc

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=20)  # few values, so that there are ties


@settings(deadline=None, max_examples=25)
@given(usual=SCORES, anomalous=SCORES)
def test_as_scikit_learn_and_as_the_share_of_pairs(usual: list[int], anomalous: list[int]) -> None:
    a, b = (torch.tensor(x, dtype=torch.float64) for x in (usual, anomalous))
    found = roc(a, b)
    labels = np.r_[np.zeros(len(a)), np.ones(len(b))]
    scores = torch.cat([a, b]).numpy()
    assert found.area == pytest.approx(roc_auc_score(labels, scores))
    pairs = b[:, None] - a[None]
    assert found.area == pytest.approx(
        ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean().item()
    )
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false, false)
    np.testing.assert_allclose(found.true, true)


def test_bad_scores() -> None:
    with pytest.raises(ShapeError):
        roc(torch.zeros(0), torch.zeros(3))
    with pytest.raises(NonFiniteError):
        roc(torch.tensor([1.0, float("nan")]), torch.zeros(3))
