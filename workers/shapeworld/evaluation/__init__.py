"""How good the models are on clips nobody trained on: each model alone with true input, and the pipeline as a whole.

The truth is looked at only to score what came out, and, where a model is measured alone, to give it true input: SAM2
true boxes, System 2 the description of what is there.
"""
