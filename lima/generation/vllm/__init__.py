"""vLLM as an engine: in an environment and a process of its own, told where to sample by ours."""

DECODING, ADDRESS = "lima_decoding", "lima_address"
"""Keys of vLLM's additional configuration, and of a request's extra arguments."""
