"""What commands write, and what changes while they wait."""
