"""The public model: sources to tokens and back, one by one and file by file."""
