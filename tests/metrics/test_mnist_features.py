import pytest

from rectilinear import datasets
from rectilinear.metrics import floor, train_features


@pytest.mark.slow
def test_features_of_mnist_classify_99_percent_of_the_test_images(mnist_dir):
    train, test = (datasets.load("mnist", split, data_dir=mnist_dir) for split in ("train", "test"))
    network = train_features(*train, tuple(test), name="mnist")
    assert network.accuracy > 0.99
    ordered = floor(test.images[:5000], network, n=2500), floor(test.images[5000:], network, n=2500)
    print(ordered, floor(test.images, network))
