"""The sections of a search's report as sentences and tables, which the terminal shows, too."""
