"""Large values: how they lie in memory that processes of a host share, and how they are asked for in object storage."""
