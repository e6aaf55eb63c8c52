"""What a search will cost, before anything is spent: candidates of its space, time and money."""
