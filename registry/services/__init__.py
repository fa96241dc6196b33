"""Writes of the registry: each public function is one act."""
