"""Trains one candidate on one device: loop, augmentation, optimisers, feeds, CUDA graphs.

The package is pure torch and free of Ray; start with `trainables.training.loop`.
"""
