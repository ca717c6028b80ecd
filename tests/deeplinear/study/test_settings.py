"""Study settings of the wrong type: one clear error each, before anything runs."""

import numpy as np
import pytest

from rectilinear.deeplinear import DepthStudy, Model, Synthetic
from rectilinear.deeplinear.study.workers import map_chunks
from rectilinear.errors import ConfigError


@pytest.mark.parametrize(
    ("of", "settings"),
    [
        *(
            (DepthStudy, {name: value})
            for name in ("trials", "folds", "block", "seed")
            for value in (2.5, "3", None, True)
        ),
        *((DepthStudy, {name: "3"}) for name in ("steps", "tol", "checkpoints", "tuning")),
        *((DepthStudy, {"models": value}) for value in (Model("ridge"), ("ridge",), "ridge", None)),
        *((Model, {name: value}) for name in ("depth", "width") for value in (1.5, "2", None)),
        *((Model, {name: "a"}) for name in ("lr", "penalty")),
        *((Synthetic, {"noise": value}) for value in (0.1, ("a",), None)),
        *(
            (Synthetic, {name: value})
            for name in ("inputs", "rows", "test_rows")
            for value in (2.5, "3")
        ),
        (Synthetic, {"condition": "a"}),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_by_name(of, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"^Got {name} = "):
        of(**settings)


def test_integers_of_numpy_are_integers():
    assert Model(depth=np.int64(3)).depth == 3


@pytest.mark.parametrize(
    "options", [{"n_jobs": 1.5}, {"n_jobs": "2"}, {"n_jobs": 0}, {"backend": "mpi"}]
)
def test_workers_of_no_kind_are_refused(options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^Got {name} = "):
        list(map_chunks(abs, {0: 1, 1: 2}, **options))
