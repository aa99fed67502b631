"""What goes with a data set: its card, attribution, and table 1."""
