"""Soak test: kill, interrupt and disturb real commands at random moments, then compare with undisturbed runs."""
