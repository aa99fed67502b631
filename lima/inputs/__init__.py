"""What stages read: fingerprints of its content, checks against them, and copies in storage."""
