"""Papers, a folder each, and in it a file a figure: ``compute``, ``draw`` and ``claims``."""
