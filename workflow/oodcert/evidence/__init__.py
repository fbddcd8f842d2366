"""Evidence on disk: rows per image with provenance, the manifest of a run, and what must hold between rows."""
