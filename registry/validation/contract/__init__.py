"""What a model's outputs mean, inferred from its graph and from what it answers; no Django.

`facts.py` gathers what is seen of each output, `trial.py` runs the model on a few rows, and
`inference.py` decides, or says what it saw and asks.
"""
