"""Reading checkpoints that anybody may have written: what a file is, what it holds, and which of it is meant."""
