"""The decisions of the fleet as pure functions: values in, values out, the time passed in."""
