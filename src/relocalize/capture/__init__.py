"""Video or photos to frames."""
