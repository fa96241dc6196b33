"""What devices call, and how a poll is answered without touching the database."""
