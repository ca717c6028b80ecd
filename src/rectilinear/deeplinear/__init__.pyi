"""Deep linear networks against linear regression: the engine, a regressor and the study of depth."""

from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .ensemble import OPTIMIZERS as OPTIMIZERS
from .ensemble import Trajectory as Trajectory
from .ensemble import log_grid as log_grid
from .ensemble import train as train
from .initialisation import STARTS as STARTS
from .initialisation import draw as draw
from .least_squares import LeastSquares as LeastSquares
from .least_squares import least_squares as least_squares
from .regressor import DeepLinearRegressor as DeepLinearRegressor
from .statistics import SufficientStatistics as SufficientStatistics
from .study import DepthStudy as DepthStudy
from .study import Model as Model
from .study import StudyResult as StudyResult
from .study import Synthetic as Synthetic
from .study import Table as Table
from .study import deep_linear as deep_linear
from .theory import effective_step as effective_step
from .theory import escape_time as escape_time
from .theory import largest_stable_step as largest_stable_step
