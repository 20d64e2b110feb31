"""Storage below the server's memory, behind one port. `port` says what a tier promises."""
