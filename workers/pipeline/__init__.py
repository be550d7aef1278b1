"""The Omni-R1 pipeline. Knows no database, queue, web framework, storage or labeling tool."""
