"""The comparison of searches and nights, as sections for the terminal and as a page.

`search.reporting.compare.comparison.build` puts it together from the arms of
`search.reporting.compare.arm`.
"""
