"""Prepares, runs and resumes a search by connecting all other packages.

Start with `search.driver.run.run_search`, which `python search.py run` calls.
"""
