"""Looks at every frame of videos and writes rows: what `embed`, `prepare` and the rendering commands share."""
