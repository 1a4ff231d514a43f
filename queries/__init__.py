"""Data out: SQL over what was captured."""
