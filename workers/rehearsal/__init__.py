"""The learning loop in rehearsal: a simulated annotator, and nights in a row, on the proving ground."""
