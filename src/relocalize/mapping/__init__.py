"""Posed images to one map: features, pairs, matches, reconstruction."""
