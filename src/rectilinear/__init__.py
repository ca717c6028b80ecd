"""Linear algebra for neural networks, in PyTorch.

``__init__.pyi`` is the table of contents, for type checkers and at run time. A name is loaded when
it is first used, so that the command line shows its help without importing torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "__version__"])
