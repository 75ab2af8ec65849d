"""Weights that others trained, in and out: where they lie, what their names are, and whether they work."""
