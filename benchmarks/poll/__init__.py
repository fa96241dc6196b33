"""What a poll costs, beside a bare function on the same server and MLflow's alias endpoint."""
