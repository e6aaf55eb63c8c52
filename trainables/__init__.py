"""Trains candidates on a worker: builds networks, loads images, trains, measures and exports.

Start with `trainables.trial` (a Ray Tune trainable) and `trainables.training.loop` (pure torch);
the package never imports `search`.
"""
