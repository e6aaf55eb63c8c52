"""Searches that go on every night, and the champion that they have to beat."""
