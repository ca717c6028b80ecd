"""Koopman models of time series: linear in an induced space, with an exact decoder.

Names are loaded when they are first used: only the regressors need scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted({*__all__} - {"Features", "MultiStep"})  # parts of saved models, not public
