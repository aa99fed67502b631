"""From candidates to arms: quotas, ranking, gates, picks and edits (section 2)."""
