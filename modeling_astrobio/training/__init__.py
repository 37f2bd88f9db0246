"""Training tools; they use the models and are never needed to load one."""
