"""What this device may run: signed documents, and the releases and the state on its disk."""
