"""Topic names and topic filters, and the trees that match one against the other."""
