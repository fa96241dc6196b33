"""What a person reads after a job: variants beside their source."""
