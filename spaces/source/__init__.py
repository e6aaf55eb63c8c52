"""Writes an architecture as readable PyTorch code that needs torch alone.

Start with `spaces.source.module`. The graph becomes chains and blocks (`spaces.source.graph`),
equal blocks become one class with parameters (`spaces.source.classes`), and every operation is
spelled in `spaces.source.forms`.
"""
