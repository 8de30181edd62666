"""The data set doctor: do claimed poses explain the pictures, and under which convention."""
