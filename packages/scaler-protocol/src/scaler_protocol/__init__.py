"""The words that cross a process boundary, and the session rules both ends obey."""
