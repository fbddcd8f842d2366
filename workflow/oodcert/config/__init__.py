"""The configuration of a profile: read, checked, and typed. Imports no torch."""
