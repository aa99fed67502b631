"""Asking an OpenAI-compatible endpoint: keys, rate limits, budget, and nothing paid for twice."""
