"""Shares of labels, and arms against each other."""
