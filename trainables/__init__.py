"""Trains candidates on a device: images, modules, the training loop; traces users' modules."""
