"""Several ranks: where each stands, what it holds of the weights, and how they talk; a value, never a global."""
