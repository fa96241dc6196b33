"""One module for each kind of channel: what a message looks like there, and how it is sent."""
