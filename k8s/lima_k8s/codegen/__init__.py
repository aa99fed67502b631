"""What is written from the code: the values of the charts, the reference pages."""
