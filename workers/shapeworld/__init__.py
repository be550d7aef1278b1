"""The proving ground: a synthetic world of coloured shapes that move, enter, leave and sound, with ground truth.

Everything here is made from a seed; nothing here is seen by the pipeline except the pixels and samples of the clip.
"""
