"""Deep linear networks against linear regression: ensembles, a regressor, the study of depth."""

from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .diagnosis import escape_time as escape_time
from .diagnosis import largest_stable_step as largest_stable_step
from .ensemble import Trajectory as Trajectory
from .ensemble import train_ensemble as train_ensemble
from .initialisation import initial_weights as initial_weights
from .regressor import DeepLinearRegressor as DeepLinearRegressor
from .statistics import SufficientStatistics as SufficientStatistics
from .study.depth_study import DepthStudy as DepthStudy
from .study.design import Model as Model
from .study.design import Synthetic as Synthetic
from .study.design import deep_linear as deep_linear
from .study.page import write_study as write_study
from .study.result import StudyResult as StudyResult
from .study.table import Table as Table
