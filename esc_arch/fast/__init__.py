"""Other ways to compute what the layers define: the same numbers, in less time and memory."""
