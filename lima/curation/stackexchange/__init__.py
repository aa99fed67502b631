"""Stack Exchange: dumps, filters, threads, and the sites (section 2.1)."""
