"""Pictures in files: reading and writing them, and all that belongs to them."""
