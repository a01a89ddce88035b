"""Pre-training of the demo's CLIP models on synthetic captioned scenes."""
