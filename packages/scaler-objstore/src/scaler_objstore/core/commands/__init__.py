"""The requests of peers: one module with one function for each. `table` lists all of them."""
