"""The object storage server: it holds immutable bytes by id until nobody needs them."""
