"""What a model's outputs mean: the contract of the manifest, and the one logic that reads by it.

The server and the agent each carry this folder, the same to the letter (a test compares them), for
neither imports the other. It needs the standard library and numpy alone.
"""
