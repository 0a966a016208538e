"""Users of other systems: what reads each format, and what it becomes."""
