"""Runs as people see them, wherever they run: states, records, display, backends."""
