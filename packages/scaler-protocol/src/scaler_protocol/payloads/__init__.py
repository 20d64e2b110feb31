"""What the bytes of arguments, results, functions and failures mean to clients and processors."""
