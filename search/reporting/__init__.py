"""Shows searches, spaces and networks without training: status, report, comparison, plots.

Start with `search.reporting.stored_search.StoredSearch`; none of its modules imports Ray, and only
the analysis of a user's own network imports torch.
"""
