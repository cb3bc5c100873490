"""What else would have been written, and how likely: masses, outcomes, what is left unexplored.

No model is touched here: ``runs.explore`` decodes, and tells this room what came.
"""
