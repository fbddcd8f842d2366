"""Detection metrics and the bootstrap: pure functions of arrays. Imports no torch."""
