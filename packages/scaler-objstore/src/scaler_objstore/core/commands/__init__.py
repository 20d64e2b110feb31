"""What a peer may ask for: one module per command, one function each. `table` is the whole of it."""
