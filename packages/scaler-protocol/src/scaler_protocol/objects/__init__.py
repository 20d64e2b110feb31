"""Large values: in memory that the processes of a host share, and in object storage."""
