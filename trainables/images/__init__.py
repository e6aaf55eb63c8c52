"""Where images come from: sources, archives, decoding, the cache of decoded sets."""
