"""System 1's training: instruction, sixteen frames and sound in; a list of what is there, a choice and moments out.

`sightings` measures what the list says, `words` says it, `scenes` draws scenes and questions, `batches` makes arrays of
them, `model` has the losses, `recipe` the phases.
"""

from workers.shapeworld.training.system1.recipe import trainee

__all__ = ["trainee"]
