"""What is done with a study before its runs start: their inputs are found and named."""
