"""A training from its start to its end: where it stands, what it resumes from, what may go wrong in it."""
