"""Means, intervals, correlations and counts, of plain numbers."""
