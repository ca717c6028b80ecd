"""Metrics of generated samples, reconstructions, recovered noise, linearity and detection."""

from rectilinear.metrics.features import FeatureNetwork, ModuleFeatures, train_features
from rectilinear.metrics.generation import (
    GenerationScores,
    evaluate_samples,
    frechet_distance,
    precision_recall,
    real_scores,
    roc,
    sliced_wasserstein,
)
from rectilinear.metrics.linearity import linearity
from rectilinear.metrics.normality import Normality, kolmogorov_smirnov, normality
from rectilinear.metrics.pca import pca
from rectilinear.metrics.pca import pca_curve as pca_curve
from rectilinear.metrics.similarity import mean_psnr, psnr, ssim

__all__ = [
    "FeatureNetwork",
    "GenerationScores",
    "ModuleFeatures",
    "Normality",
    "evaluate_samples",
    "frechet_distance",
    "kolmogorov_smirnov",
    "linearity",
    "mean_psnr",
    "normality",
    "pca",
    "precision_recall",
    "psnr",
    "real_scores",
    "roc",
    "sliced_wasserstein",
    "ssim",
    "train_features",
]
