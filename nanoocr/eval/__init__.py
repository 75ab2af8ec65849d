"""Measures what a model reads: metrics, benchmarks, page sets, other engines, reports."""
