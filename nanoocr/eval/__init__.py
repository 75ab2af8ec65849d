"""Measuring what a model has read: metrics, benchmarks, and what they read."""
