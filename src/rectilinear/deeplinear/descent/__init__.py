"""Training trajectories of linear networks: tasks, networks, training, measures, limits."""
