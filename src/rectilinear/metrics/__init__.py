"""Metrics: of generated samples, likelihoods, reconstructions, linearity and recovered noise."""

from rectilinear.metrics.features import FeatureNetwork, train_features
from rectilinear.metrics.generation import (
    GenerationScores,
    PrecisionRecall,
    Scores,
    evaluate_samples,
    floor,
    frechet_distance,
    precision_recall,
    sliced_wasserstein,
)
from rectilinear.metrics.linearity import linearity
from rectilinear.metrics.normality import (
    ROC,
    KolmogorovSmirnov,
    Normality,
    bits_per_dimension,
    kolmogorov_smirnov,
    normality,
    roc,
)
from rectilinear.metrics.pca import PCA, Reconstruction, pca, pca_curve, reconstruction
from rectilinear.metrics.psnr import mean_psnr, psnr, ssim

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
