"""Tables, figures, captions, the report and the research object: pure functions of evidence. Imports no torch."""
