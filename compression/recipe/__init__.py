"""What a person orders: the steps, their parameters, and whether they fit a model."""
