"""The learning loop, one turn of it: what a training worker does for a retraining."""
