import pytest
import torch

from rectilinear import datasets
from rectilinear.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)
from rectilinear.metrics import FeatureNetwork, train_features
from rectilinear.metrics.features import _shifted


@pytest.fixture(scope="module")
def trained():
    train, test = datasets.load("digits"), datasets.load("digits", "test")
    losses = []
    network = train_features(
        *train,
        tuple(test),
        name="digits",
        on_epoch=lambda epoch, loss: losses.append((epoch, loss)),
    )
    return network, losses, train, test


@pytest.mark.whole
def test_learns_the_digits(trained):
    network, losses, train, test = trained
    assert network.accuracy > 0.975  # 0.980 to 0.990 over seeds
    assert network.accuracy == pytest.approx(
        (network.predict(test.images) == test.labels).float().mean().item()
    )
    assert [epoch for epoch, _ in losses] == list(range(1, 16))
    assert losses[-1][1] < 0.1 < losses[0][1]
    assert not network.training
    features = network.embed(train.images)
    assert features.shape == (1500, 64)
    assert (
        features.mean(0).abs().max() < 0.3
    )  # standard over the training images, up to running averages
    assert features.std(0).mean() == pytest.approx(1, abs=0.1)


def test_saved_and_loaded(trained, tmp_path):
    network, _, _, test = trained
    network.save_pretrained(tmp_path)
    again = FeatureNetwork.from_pretrained(tmp_path)
    assert (again.name, again.shape, again.accuracy) == ("digits", (1, 8, 8), network.accuracy)
    assert torch.equal(again.embed(test.images), network.embed(test.images))
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError):
        FeatureNetwork.from_pretrained(tmp_path)


def small(n=200):
    g = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, 5, 6, generator=g), torch.randint(4, (n,), generator=g)


def test_the_seed_is_the_network_and_nothing_outside_moves():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two, other = (train_features(*small(), epochs=1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    x = small()[0]
    assert torch.equal(one.embed(x), two.embed(x))
    assert not torch.equal(one.embed(x), other.embed(x))
    assert one.accuracy is None
    assert one(x).shape == (200, 4)


@pytest.mark.parametrize("side", [1, 7, 8, 28, 32, 64])
def test_any_size_in_batches_and_precision(side, monkeypatch):
    network = FeatureNetwork((1, side, side), 10).double()
    x = torch.rand(5, 1, side, side, dtype=torch.float64)
    monkeypatch.setattr("rectilinear.metrics.features.EMBED_BATCH_IMAGES", 2)
    assert torch.allclose(network.embed(x)[-1:], network.embed(x[-1:]))
    assert network.training  # as it was
    assert network.embed(x.float()).dtype == torch.float64


def test_bad_data_is_named():
    x, y = small()
    with pytest.raises(ShapeError, match="labels"):
        train_features(x, y[:-1])
    with pytest.raises(NonFiniteError):
        train_features(x / 0, y)
    with pytest.raises(DtypeError, match="from -1"):
        train_features(x, y - 1)
    with pytest.raises(DivergedError, match="in epoch 1"):
        train_features(x * 1e38, y, epochs=1)
    with pytest.raises(ConfigError):
        FeatureNetwork((1, 0, 8), 10)
    network = FeatureNetwork((1, 8, 8), 10)
    with pytest.raises(ShapeError, match=r"\(batch, 1, 8, 8\)"):
        network.embed(torch.rand(2, 1, 9, 9))
    with pytest.raises(NonFiniteError):
        network.embed(torch.full((2, 1, 8, 8), float("nan")))


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (16, 16)])
def test_images_of_any_shape_are_shifted_within_their_sides(shape):
    random = torch.Generator().manual_seed(0)
    images = torch.ones(2, 1, *shape)
    for _ in range(20):
        moved = _shifted(images, random)
        assert moved.shape == images.shape
        assert float(moved.mean()) >= (15 / 16) ** 2
