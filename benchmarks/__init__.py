"""What the figures in the documentation come from; one command each."""
