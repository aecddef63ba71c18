"""Turns faces and motions into pictures: portraits, their motion at full size, panels. Knows no files and no Ray."""
