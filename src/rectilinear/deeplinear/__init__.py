"""Deep linear networks against linear regression: ensembles, a regressor, the study of depth.

Names are imported at first use, so that workers of a study need no scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
