"""Who speaks, what it measures, where it is: the registry's read model, cache and writer."""
