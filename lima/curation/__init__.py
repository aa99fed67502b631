"""Alignment data (section 2)."""
