"""What several commands share; knows nothing of networks."""
