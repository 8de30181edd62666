"""Trained weights of backbones: where they are published, and how to load them safely."""

from relocalize.regression.weights.loading import DATA_SETS, WeightsReport, load_weights

__all__ = ["DATA_SETS", "WeightsReport", "load_weights"]
