"""A model that is cut over several GPUs: a process for each, all of which compute every token."""
