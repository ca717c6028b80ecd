"""One training loop with a run folder: frozen configuration, resumed by the same call."""

from rectilinear.training.checkpoint import load_checkpoint, load_state
from rectilinear.training.config import TrainConfig
from rectilinear.training.log import read_log
from rectilinear.training.loop import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "load_checkpoint", "load_state", "read_log", "train"]
