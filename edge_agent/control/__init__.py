"""How the agent speaks with the control plane."""
