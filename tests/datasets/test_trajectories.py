"""Simulated systems against scipy, and series from files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.integrate import solve_ivp

from rectilinear.datasets import read_series, simulate_system
from rectilinear.datasets.synthetic import SYSTEMS, linear_eigenvalues
from rectilinear.errors import ConfigError, DataError


@pytest.mark.parametrize("name", SYSTEMS)
def test_against_an_adaptive_integrator(name: str) -> None:
    states, times = simulate_system(name, count=2, steps=20, jitter=0.2, seed=3)
    velocity = SYSTEMS[name].velocity
    for x, t in zip(states, times, strict=True):
        slow = solve_ivp(
            lambda _, y: velocity(torch.as_tensor(y)[None])[0].numpy(),
            (float(t[0]), float(t[-1])), x[0].numpy(), "DOP853", t.numpy(), rtol=1e-11, atol=1e-11,
        ).y.T  # fmt: skip
        assert np.abs(slow - x.numpy()).max() < 1e-5, "chaos and 16 steps of order four"


def test_seed_noise_and_times() -> None:
    a, b = (
        simulate_system("pendulum", 3, 10, seed=1),
        simulate_system("pendulum", 3, 10, seed=1, noise=0.1),
    )
    assert torch.equal(a.states, simulate_system("pendulum", 3, 10, seed=1).states)
    assert 0.03 < float((a.states - b.states).std()) < 0.3
    assert torch.allclose(a.times.diff(), torch.tensor(0.1).double())
    jittered = simulate_system("pendulum", 3, 10, jitter=0.4).times.diff()
    assert float(jittered.min()) > 0
    assert float(jittered.std()) > 0.01


def test_eigenvalues_are_those_of_the_velocity() -> None:
    matrix = SYSTEMS["linear"].velocity(torch.eye(4).double()).T
    values = torch.linalg.eigvals(matrix)
    for value in linear_eigenvalues():
        assert (values - value).abs().min() < 1e-12


@pytest.mark.parametrize(
    "change", [{"name": "chair"}, {"count": 0}, {"steps": 0}, {"dt": 0.0}, {"jitter": 0.5}]
)
def test_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        simulate_system(**({"name": "pendulum", "count": 1, "steps": 1} | change))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("1,2\n3,4\n5,6\n")
    plain = read_series(tmp_path / "plain.csv")
    assert [x.tolist() for x in plain.values] == [[[1, 2], [3, 4], [5, 6]]]
    assert plain.times is None
    (tmp_path / "timed.txt").write_text("x,Time\n1,0\n,1\n")
    timed = read_series(tmp_path / "timed.txt")
    assert np.isnan(timed.values[0]).tolist() == [[False], [True]]
    assert timed.times is not None
    assert timed.times[0].tolist() == [0, 1]
    np.save(tmp_path / "many.npy", np.zeros((2, 5, 3)))
    many = read_series(tmp_path / "many.npy")
    assert [x.shape for x in many.values] == [(5, 3), (5, 3)]
    assert many.names == ("column 1", "column 2", "column 3")
    with pytest.raises(ConfigError, match=r"columns = .* of many\.npy"):
        read_series(tmp_path / "many.npy", columns=["a"])


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "x\nword\n"), ("b.csv", ""), ("c.csv", "1,2\n3\n")]
)
def test_files_that_are_no_series(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        read_series(tmp_path / name)
    with pytest.raises(DataError, match="no file"):
        read_series(tmp_path / "absent.csv")


def test_images_and_other_binary_files_are_named_as_such(tmp_path: Path) -> None:
    for name in ("photo.png", "photo.JPG"):
        Image.new("RGB", (40, 30), (200, 30, 9)).save(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}, which is an image and no text.*\.csv"):
            read_series(tmp_path / name)
    np.savez(tmp_path / "many.npz", np.zeros(3))
    (tmp_path / "sheet.csv").write_bytes((tmp_path / "many.npz").read_bytes())
    with pytest.raises(DataError, match=r"sheet\.csv, which is a binary file"):
        read_series(tmp_path / "sheet.csv")
