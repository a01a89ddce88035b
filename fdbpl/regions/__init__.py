"""The region bank: a teacher's outputs for random image regions, stored once and shared by all runs."""
