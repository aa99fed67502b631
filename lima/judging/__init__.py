"""Models as judges (section 4.1, appendix D)."""
