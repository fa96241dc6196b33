"""What runs in the child process: it reads a source model, applies passes, writes variants."""
