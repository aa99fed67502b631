"""Candidates: every conversation that curation saw, and the table of them."""
