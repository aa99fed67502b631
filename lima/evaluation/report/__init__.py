"""A study's report: one page with figures and tables."""
