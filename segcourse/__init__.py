"""segcourse: a course on semantic segmentation, and the package behind its lessons.

Importing the package costs nothing: no torch, no numpy. Each topic is one module, named as in its lesson.
"""

__version__ = "0.1.0"
