"""Trained weights of backbones: where they are published, and how to load them safely."""

from relocalize.regression.weights.loading import WeightsReport, load_weights

__all__ = ["WeightsReport", "load_weights"]
