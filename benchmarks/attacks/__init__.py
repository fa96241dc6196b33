"""Attacks and accidents on the product, and what became of each.

Each is carried out by tests against real servers, real agents and a real browser; here they have
one table, one command and one page in `docs/`.
"""
