"""Evidence on disk: rows per image with their provenance, the manifest of a run, and what must hold between rows."""
