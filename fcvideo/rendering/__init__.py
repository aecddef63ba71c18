"""Turns faces and motions into pictures, frame by frame, a segment at a time. Knows no Ray."""
