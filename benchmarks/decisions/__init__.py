"""How often the decisions are right, by simulation: each part calls the product's own functions.

A part is a module with `figures(seconds)`, which gives every figure it has by its key. `seconds` is
about how long it may take on one core: more seconds mean more simulated rollouts, never other ones.
"""
