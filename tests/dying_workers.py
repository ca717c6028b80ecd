"""Work for other processes, which import it by name: some of it kills them."""

import os
import signal
from pathlib import Path


def dies_once(item: Path) -> int:
    """Kills its process, unless the file is there already; leaves it."""
    if not item.exists():
        item.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def dies_unless_zero(item: int) -> int:
    if item:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
