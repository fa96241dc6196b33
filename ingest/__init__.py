"""What devices say happened: inbox, windows, drift, alerts and their pages."""
