"""Commands with which people read, choose, talk and label."""
