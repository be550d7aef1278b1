"""The nouns and rules of Premask in plain Python and numpy: no I/O, no framework, no torch."""
