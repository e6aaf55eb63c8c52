"""Reads image data sets: sources, archives, staging from buckets, decoding, splits, cache.

Start with `trainables.data.load`, which puts these steps together.
"""
