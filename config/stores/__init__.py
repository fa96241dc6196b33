"""How this server talks to its stores: each call with a deadline, and none where none answers."""
