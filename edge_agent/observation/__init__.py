"""What the agent notes and sends: records, events, drift, resources, samples."""
