"""Draws the splits, and keeps groups and copies of images together.

Start with `trainables.images.splitting.splits.draw_splits`.
"""
