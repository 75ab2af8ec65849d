"""Measuring what a model has read: metrics, and later the benchmarks that use them."""
