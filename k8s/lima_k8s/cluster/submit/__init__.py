"""Submitting runs to a cluster, and taking them off it."""
