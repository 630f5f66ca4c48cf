"""Models, readable top to bottom, and how they are divided over dies."""
