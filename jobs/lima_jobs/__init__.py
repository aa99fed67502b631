"""Entrypoints of the jobs: they start Ray, call `lima` and keep the attempt ledger."""
