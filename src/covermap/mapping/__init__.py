"""From a scene and a bundle to a map: plan, read, predict, write."""
