"""What runs of all stages have: a lease, attempts, progress, a stop, and runs before them."""
