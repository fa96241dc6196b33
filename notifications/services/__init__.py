"""Writes: channels and rules, the outbox, and delivery."""
