"""Exports trained networks to files that need nothing of Borderline.

Start with `trainables.export.folder`. `classifier.py` is also part of each exported folder: it
imports torch alone.
"""
