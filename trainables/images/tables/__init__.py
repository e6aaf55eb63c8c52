"""Reads tables that name the file and the class of each image.

Start with `trainables.images.tables.label_table.open_table`.
"""
