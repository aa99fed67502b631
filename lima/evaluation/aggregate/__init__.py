"""The aggregate: one row a group of cells."""
