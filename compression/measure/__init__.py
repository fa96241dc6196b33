"""What a model costs and how well it answers: samples, sessions, scores, latency, gates."""
