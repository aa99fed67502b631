"""All sources but Stack Exchange (sections 2.1 and 2.2)."""
