"""Commands on a study before it runs, and `submit`."""
