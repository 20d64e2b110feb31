"""Worker adapters: they start and stop workers when a scheduler asks for it."""
