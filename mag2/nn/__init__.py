"""Building blocks that need torch alone: layers, dropout, the triplet loss, weights by name, what wraps a module."""
