"""The networks of the course, one file each, each the paper's own with a width to make it small."""
