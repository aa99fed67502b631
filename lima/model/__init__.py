"""The model: end-of-turn token, residual dropout, loading (section 3)."""
