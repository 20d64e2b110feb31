"""Workers as tasks of AWS ECS."""
