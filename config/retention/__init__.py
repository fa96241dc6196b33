"""What is kept for how long: every table that grows, its setting, and what removes its rows."""
