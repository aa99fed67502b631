"""What the results say (sections 4, 5, 6, appendix B)."""
