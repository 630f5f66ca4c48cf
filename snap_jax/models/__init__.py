"""Models, readable top to bottom, and how they are divided into the stages of a pipeline."""
