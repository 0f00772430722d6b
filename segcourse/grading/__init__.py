"""Grades a class: reads what was handed in, runs it where it can do no harm, judges it, and explains.

Nothing in a submission counts but its functions, found by their names: no tests, points, tags or kernel of its own.
"""
