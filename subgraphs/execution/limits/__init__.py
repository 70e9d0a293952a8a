"""Limits on how many runs go on at once and how often they begin, and what becomes of the others. See README.md."""
