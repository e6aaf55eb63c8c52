"""Measures what each convolution of a trained network contributes.

`trainables.probes.records` holds the results and is free of torch. `trainables.probes.probing`
measures them.
"""
