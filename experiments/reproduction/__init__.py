"""Reproduces published experiments: resumable trainings, and a page with published numbers beside.

An experiment is a module of `experiments.published`. The command is::

    python search.py reproduce NAME
"""
