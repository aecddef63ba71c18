"""The commands, a file each that reads as its recipe."""
