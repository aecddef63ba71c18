"""Losses, the two stages, the loop of one rank, checkpoints. Needs torch alone; knows no Ray."""
