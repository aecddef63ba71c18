"""Faces on disk for training: Parquet of clips, pair sampling, augmentation."""
