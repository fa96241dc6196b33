"""PostgreSQL, Valkey and an S3 server for tests and the demonstration, started from wheels.

`python -m servers -- CMD` runs CMD with the three up and `DATABASE_URL`, `REDIS_URL` and
`S3_ENDPOINT_URL` set; a server whose variable is already set is used as it is and not started.
"""
