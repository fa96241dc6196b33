"""The statistics of drift as pure functions: values in, values out, the time passed in."""
