"""Reads the data set that a function of the user returns.

Start with `trainables.images.functions.image_function.ImageFunction`.
"""
