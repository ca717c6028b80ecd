"""Linear networks along the way: tasks, networks, training, measures, and where it ends."""
