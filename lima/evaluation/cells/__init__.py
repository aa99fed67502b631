"""What is read of the cells of a study, and how they are told apart."""
