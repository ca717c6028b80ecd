import pytest

from rectilinear import datasets
from rectilinear.metrics import frechet_distance, real_scores, train_features


@pytest.mark.slow
def test_features_of_mnist_and_why_its_floor_is_shuffled(mnist_dir):
    train, test = (datasets.load("mnist", split, data_dir=mnist_dir) for split in ("train", "test"))
    network = train_features(*train, tuple(test), name="mnist")
    assert network.accuracy > 0.99  # 0.995
    features = network.embed(test.images)
    # the second half of the test set was written by others: 1.12 against 0.13
    assert (
        frechet_distance(features[:5000], features[5000:])
        > 3 * real_scores(test.images, network).fd
    )
