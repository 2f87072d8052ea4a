"""All that knows the insides of BasicSR."""
