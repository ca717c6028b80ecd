"""One training loop: frozen configuration, run folder, resume by the same command."""

from rectilinear.training.checkpoint import load_checkpoint, load_state, load_tensors, save_tensors
from rectilinear.training.config import TrainConfig
from rectilinear.training.log import read_log
from rectilinear.training.loop import TrainResult, train

__all__ = [
    "TrainConfig",
    "TrainResult",
    "load_checkpoint",
    "load_state",
    "load_tensors",
    "read_log",
    "save_tensors",
    "train",
]
