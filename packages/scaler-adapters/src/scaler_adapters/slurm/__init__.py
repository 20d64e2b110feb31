"""Workers as batch jobs of a Slurm cluster."""
