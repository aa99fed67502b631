"""Batch generation (section 4.1)."""
