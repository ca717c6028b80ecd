"""Metrics: of generated samples, likelihoods, reconstructions, linearity and recovered noise."""

from rectilinear.metrics.bits import bits_per_dimension
from rectilinear.metrics.features import FeatureNetwork, train_features
from rectilinear.metrics.frechet import frechet_distance
from rectilinear.metrics.generation import GenerationScores, Scores, evaluate_samples, floor
from rectilinear.metrics.linearity import linearity
from rectilinear.metrics.normality import KolmogorovSmirnov, Normality, kolmogorov_smirnov, normality
from rectilinear.metrics.precision_recall import PrecisionRecall, precision_recall
from rectilinear.metrics.reconstruction import PCA, Reconstruction, pca, pca_curve, reconstruction
from rectilinear.metrics.roc import ROC, roc
from rectilinear.metrics.similarity import mean_psnr, psnr, ssim
from rectilinear.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = [
    "PCA",
    "ROC",
    "FeatureNetwork",
    "GenerationScores",
    "KolmogorovSmirnov",
    "Normality",
    "PrecisionRecall",
    "Reconstruction",
    "Scores",
    "bits_per_dimension",
    "evaluate_samples",
    "floor",
    "frechet_distance",
    "kolmogorov_smirnov",
    "linearity",
    "mean_psnr",
    "normality",
    "pca",
    "pca_curve",
    "precision_recall",
    "psnr",
    "reconstruction",
    "roc",
    "sliced_wasserstein",
    "ssim",
    "train_features",
]
