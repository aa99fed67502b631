"""Processes that are asked, that attack, and that are killed."""
