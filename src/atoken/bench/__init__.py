"""Speed and memory, which anyone can measure."""
