"""A study before it is submitted: its inputs, findings, and what would be done."""
