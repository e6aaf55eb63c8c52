"""Audits the border screen on a table of trained networks: pure statistics, no printing.

The screen rejects candidates before training. A table without screens contains the networks that
the screen would reject, with their accuracies, so an audit can count the wrong rejections.
``benchmarks/false_rejections.py`` prints the audit.
"""
