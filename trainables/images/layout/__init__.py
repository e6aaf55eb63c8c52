"""Derives classes and splits from the names of folders.

Start with `trainables.images.layout.arrangement.arrange`.
"""
