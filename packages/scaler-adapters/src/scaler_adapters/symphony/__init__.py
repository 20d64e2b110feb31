"""Workers on an IBM Spectrum Symphony cluster."""
