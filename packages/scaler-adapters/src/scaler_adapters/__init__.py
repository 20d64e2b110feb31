"""Starts and stops workers on somebody's machines."""
