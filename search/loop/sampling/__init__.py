"""Proposes candidates by a model of the network: features in, accuracy out.

Start with `search.loop.sampling.network_sampler.NetworkSampler`.
"""
