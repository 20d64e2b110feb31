"""Names that programs written for earlier versions import from here."""
