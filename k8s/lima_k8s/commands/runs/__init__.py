"""Commands on runs: where they are, their logs, their end."""
