"""Every write of the fleet: keyword-only functions, each in one transaction."""
