"""Pure builders of the children of our resources."""
