"""How the fleet looks in the management API; one module a subject."""
