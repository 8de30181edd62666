"""Errors, metrics, baselines, the report."""
