"""The verbs of the front door, one file each."""
