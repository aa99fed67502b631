"""What is said of a cluster: its profile, its queue, and what ships beside the code."""
