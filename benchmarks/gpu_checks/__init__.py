"""Checks and measurements of training on a GPU: see ``benchmarks/on_gpu.sh``."""
