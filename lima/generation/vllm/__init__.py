"""vLLM as an engine: in an environment and a process of its own, told where to sample by ours."""
