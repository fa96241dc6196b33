"""How fast records and summaries are taken and counted, beside PostgreSQL's own COPY."""
