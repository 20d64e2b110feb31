"""Holds immutable bytes by id until nobody needs them."""
