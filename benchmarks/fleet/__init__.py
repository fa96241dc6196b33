"""A fleet of a million devices: what it costs to judge, list and search."""
