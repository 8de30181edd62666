"""Places rendered with exactly known truth."""
