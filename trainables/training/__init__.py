"""The training loop and everything that one candidate in training needs; free of Ray.

Start with `trainables.training.loop`.
"""
