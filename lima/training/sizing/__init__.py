"""How large a training is, before anything is loaded or bought."""
