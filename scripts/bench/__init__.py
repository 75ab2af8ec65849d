"""Stopwatches: what a part of the program costs, beside others where there are others."""
