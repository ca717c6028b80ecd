"""The recipe of the feature network in whose features generated images are scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rectilinear import datasets
from rectilinear.files import locked
from rectilinear.metrics import FeatureNetwork, train_features
from rectilinear.serialization import is_saved


@dataclass(frozen=True)
class Features:
    """A classifier of a labelled data set.

    Attributes:
        data: Name of the data set, or a folder of images with a subfolder a class.
        size: Side of the square images; none keeps that of the files.
        epochs: Passes over the images; none takes as many as suffice.
        seed: Of weights, order and shifts.
    """

    data: str = "digits"
    size: int | None = None
    epochs: int | None = None
    seed: int = 0

    def train(self, out: Path, data_dir: Path | None = None) -> FeatureNetwork:
        """Train, and save in the folder ``out``; where that is done already, load.

        Raises:
            LockedError: if another process is training in ``out``.
        """
        if not is_saved(out):
            with locked(out):
                train = datasets.load(self.data, "train", data_dir, self.size)
                test = datasets.load(self.data, "test", data_dir, self.size)
                train_features(
                    train.images,
                    train.labels,
                    (test.images, test.labels),
                    name=train.name,
                    seed=self.seed,
                    epochs=self.epochs,
                ).save_pretrained(out)
        return FeatureNetwork.from_pretrained(out)
