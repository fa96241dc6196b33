"""What a model is, exactly which bytes it consists of, and who decided what."""
