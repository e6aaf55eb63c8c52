"""How far the predicted time left of a search is off: recorded and simulated searches, replayed."""
