"""The stages of one order, in turn: each takes what the one before made, as one typed value."""
