"""How people sign in: a password, a second factor, or another service that knows them (OIDC)."""
