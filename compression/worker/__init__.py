"""The process around the child: its limits, its places on a machine, its progress, its cache."""
