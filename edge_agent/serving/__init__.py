"""Who asks, and which running release answers."""
