import re

import pytest
import torch

from rectilinear import datasets
from rectilinear.datasets.images import fit
from rectilinear.datasets.mnist import checksum
from rectilinear.errors import ConfigError, DataError


def test_digits_are_split_once_and_for_all():
    train, test = datasets.load("digits"), datasets.load("digits", "test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.images.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    assert train.shape == (1, 8, 8)
    both = torch.cat([train.images, test.images]).flatten(1)
    from sklearn.datasets import load_digits

    pixels = torch.as_tensor(load_digits().data) / 16
    assert sorted(both.double().tolist()) == sorted(pixels.tolist())  # a partition, nothing lost
    assert (
        checksum(bytes(test.labels.tolist())) == "ed2fafa2886c415dfbc61550ce14b906"
    )  # the same everywhere


def test_labels_belong_to_their_images():
    images, labels = datasets.load("digits")
    held, truth = datasets.load("digits", "test")
    nearest = torch.cdist(held.flatten(1), images.flatten(1)).argmin(1)
    assert (labels[nearest] == truth).float().mean() > 0.95


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_from_files(mnist_dir, split):
    data = datasets.load("mnist", split, data_dir=mnist_dir)
    n = {"train": 60_000, "test": 10_000}[split]
    assert data.images.shape == (n, 1, 28, 28)
    assert data.images.min() == 0
    assert data.images.max() == 1
    assert (
        data.labels.bincount().tolist()[0] == {"train": 5923, "test": 980}[split]
    )  # the published counts of zeros
    assert data.classes == tuple("0123456789")


def test_mnist_in_the_folder_itself_and_padded(mnist_dir, monkeypatch):
    folder = mnist_dir / "mnist" if (mnist_dir / "mnist").is_dir() else mnist_dir
    monkeypatch.setenv("RECTILINEAR_DATA", str(folder))
    plain, padded = datasets.load("mnist", "test"), datasets.load("mnist", "test", size=32)
    assert padded.shape == (1, 32, 32)
    assert torch.equal(padded.images[:, :, 2:30, 2:30], plain.images)
    assert padded.images.sum() == plain.images.sum()


def test_fit_shrinks_within_range():
    images = torch.rand(3, 1, 9, 9, dtype=torch.float64)
    small = fit(images, 4)
    assert small.shape == (3, 1, 4, 4)
    assert (small >= 0).all()
    assert (small <= 1).all()
    assert torch.allclose(fit(torch.full((1, 1, 9, 9), 0.3), 4), torch.tensor(0.3))
    assert fit(images, 9) is images


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ConfigError, match="'train' or 'test'"):
        datasets.load("digits", "valid")
    with pytest.raises(ConfigError, match="size = 0"):
        datasets.load("digits", size=0)
    with pytest.raises(DataError, match="no data set, folder or image 'minst'"):
        datasets.load("minst", data_dir=tmp_path)
    with pytest.raises(DataError, match=re.escape("rectilinear data mnist")):
        datasets.load("mnist", data_dir=tmp_path / "nowhere")


def test_data_root_order(monkeypatch):
    monkeypatch.setenv("RECTILINEAR_DATA", "there")
    assert str(datasets.data_root("here")) == "here"
    assert str(datasets.data_root()) == "there"
    monkeypatch.delenv("RECTILINEAR_DATA")
    assert str(datasets.data_root()) == "data"
