"""Guards what a space suggests, so that a study can store it and every process reads it back.

Start with `spaces.suggestions.checked_trial.CheckedTrial`, which a space function receives.
"""
