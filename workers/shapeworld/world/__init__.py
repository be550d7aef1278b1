"""The larger proving ground: seeded scenes of shapes that move, hide, sound and leave, with questions whose answers
are measured on the picture. numpy and PyAV only; nothing here knows a model, and no model sees anything but the clip.
"""
