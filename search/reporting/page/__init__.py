"""The report of a search as one web page: its frame, and a module for each part.

`search.reporting.page.frame` is the frame of every page. It needs no other file and no network,
follows the light or dark scheme, and prints.
"""
