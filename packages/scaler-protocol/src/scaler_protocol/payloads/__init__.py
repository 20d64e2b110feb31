"""The meaning of the bytes of arguments, results, functions and failures for clients and processors."""
