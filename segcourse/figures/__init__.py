"""Figures that are too long for a cell: one module a lesson, pure functions from data to a figure."""
