"""Sources of supervision: labels, an online teacher, or the region bank."""
