"""Results that the cache does not have: files copied, programs run, and what programs may see meanwhile."""
