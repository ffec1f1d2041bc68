"""Areas, volumes, confidences: pure functions of a label map, its grid and the network's probability."""
