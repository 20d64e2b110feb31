"""Help for the tests of several distributions. Nothing that runs in production imports it."""
