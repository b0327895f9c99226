"""Token ids in, token ids out: sequences, scheduler, model runner."""
