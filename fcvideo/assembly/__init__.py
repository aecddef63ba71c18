"""Rendered videos: which are ordered, what of each is finished, who renders what is missing, how it is joined."""
