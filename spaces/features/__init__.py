"""Describes candidates of any depth by the same named numbers, for a surrogate model.

Start with `spaces.features.description.Description`, which joins the features of the network and
the recipe with those of a user's space.
"""
