"""The edge agent's figures, each beside its limit or the bare library in the same run."""
