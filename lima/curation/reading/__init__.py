"""Files of sources: as records, checked, and with their damage counted."""
