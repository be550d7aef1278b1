"""Masks on demand: the process that has a segmenter ready for labelers' clicks, and is never busy with a run."""
