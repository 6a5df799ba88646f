"""What a prediction means: is it uncertain, is its frame worth keeping."""
