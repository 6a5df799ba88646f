"""From an offered model to a committed one, or back."""
