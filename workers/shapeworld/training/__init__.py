"""Training: how each of the small checkpoints is made from nothing, on scenes of the training range only.

`loop` is the same for all three models; `segmenter`, `system1` and `system2` say what is theirs.
"""
