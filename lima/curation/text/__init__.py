"""Texts of sources made texts of an assistant (section 2.1)."""
