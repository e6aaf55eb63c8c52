"""Trains candidates on a worker: builds networks, loads images, trains, measures and exports.

Start with `trainables.trial` (one candidate, epoch by epoch) and `trainables.training.loop` (pure
torch); the package imports neither `search` nor Ray.
"""
