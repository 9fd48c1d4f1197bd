"""Drawing: slices as a radiologist hangs them, small charts, and self-contained pages.

It knows arrays and text only: no store, no configuration, no files.
"""
