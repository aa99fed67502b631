"""Examples: what training and generation read."""
