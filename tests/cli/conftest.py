from pathlib import Path

import pytest

from rectilinear import cli, datasets, metrics

TINY = ("training.steps=3", "training.batch_size=16", "blocks=2", "width=8")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the digits recipe, three steps long, with its feature network."""
    out = tmp_path_factory.mktemp("run")
    words = ["train", "digits", "--out", str(out)]
    for change in TINY:
        words += ["--set", change]
    assert cli.main(words) == 0
    images, labels = datasets.load("digits", "train")
    metrics.train_features(images, labels, name="digits", epochs=1).save_pretrained(
        out / "features"
    )
    return out
