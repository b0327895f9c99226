"""What a checkpoint or a request is, without serving it."""
