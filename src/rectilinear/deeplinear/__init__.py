"""Deep linear networks against linear regression: ensembles, a regressor, the study of depth.

Names are loaded when they are first used: the processes of a study need no scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
