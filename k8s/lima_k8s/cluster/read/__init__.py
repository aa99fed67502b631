"""Reading a cluster: the API server, and what it says as plain values."""
