"""Audits the border screen on a table of trained networks.

The screen rejects candidates before training. A table without screens contains the networks that
the screen would reject, with their accuracies, so an audit can count the wrong rejections.
``benchmarks/false_rejections.py`` runs the audit; `text` alone prints.
"""
