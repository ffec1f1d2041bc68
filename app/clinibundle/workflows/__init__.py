"""The use cases; each module reads like the sentence that describes it."""
