"""AToken inside other people's code: the classes and calls that their libraries expect."""
