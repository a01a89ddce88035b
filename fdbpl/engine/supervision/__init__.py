"""Where the supervision comes from: labels, a teacher that runs along, or the region bank."""
